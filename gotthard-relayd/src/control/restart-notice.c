/* SPDX-License-Identifier: ISC */
/*
 * Computes the window for reconnections. It must stay below timeouts.pairing (30 s), the time that
 * the first side of a session waits for the other.
 */
#include "control/restart-notice.h"

#define WINDOW_MAX_MS 20000
#define RESTART_MS    10000 /* expected time until the relay accepts connections */

static const struct {
    uint32_t per_client_ms; /* a handshake takes half a millisecond of a core */
    uint32_t min_ms;
} windows[] = {
    [RESTART_PROCESS] = {10, 200}, [RESTART_UPGRADE] = {2, 50}, /* back at once, but with a
                                                                   handshake for each client */
};

uint32_t restart_notice_window_ms(const struct client_host *clients, enum restart_kind kind)
{
    uint32_t per_client_ms = windows[kind].per_client_ms;
    size_t n = GT_MIN(clients->n_clients, (size_t)WINDOW_MAX_MS / per_client_ms);

    return GT_MAX((uint32_t)n * per_client_ms, windows[kind].min_ms);
}

void restart_notice_send(struct client_host *clients, uint32_t window_ms)
{
    struct gt_control_frame frame = {.type = GT_CONTROL_RESTARTING};

    frame.restarting.reconnect_in_ms = window_ms;
    frame.restarting.try_for_ms = 2 * window_ms + RESTART_MS;
    gt_list_for_each_safe (at, next, &clients->open)
        client_send(gt_list_entry(at, struct client, of_host), &frame);
}
