/* SPDX-License-Identifier: ISC */
/*
 * The arithmetic of a relay that comes back; see the header. The window must stay below limits.half
 * (30 s): the first side of a session waits that long for the other.
 */
#include "restarting.h"

#define WINDOW_MAX_MS 20000
#define RESTART_MS    10000 /* the relay should be back by then */

static const struct {
    uint32_t of_each_ms; /* member; a handshake takes a core half a millisecond */
    uint32_t min_ms;
} windows[] = {
    [RESTARTING_PROCESS] = {10, 200},
    [RESTARTING_IMAGE] = {2, 50}, /* back in a moment, but has to shake hands with all of them */
};

uint32_t restarting_window_ms(const struct member_host *members, enum restarting what)
{
    uint32_t of_each_ms = windows[what].of_each_ms;
    size_t n = GT_MIN(members->n_members, (size_t)WINDOW_MAX_MS / of_each_ms);

    return GT_MAX((uint32_t)n * of_each_ms, windows[what].min_ms);
}

void restarting_tell(struct member_host *members, uint32_t window_ms)
{
    struct gt_control_frame frame = {.type = GT_CONTROL_RESTARTING};

    frame.restarting.reconnect_in_ms = window_ms;
    frame.restarting.try_for_ms = 2 * window_ms + RESTART_MS;
    gt_list_for_each_safe (at, next, &members->living)
        member_send(gt_list_entry(at, struct member, of_host), &frame);
}
