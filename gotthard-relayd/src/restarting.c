/* SPDX-License-Identifier: ISC */
/*
 * The arithmetic of a relay that comes back; see the header. The window must stay below limits.half
 * (30 s): the first side of a session waits that long for the other.
 */
#include "restarting.h"

#define WINDOW_OF_EACH_MS 10 /* a handshake takes a core less than a tenth of it */
#define WINDOW_MIN_MS     200
#define WINDOW_MAX_MS     20000
#define RESTART_MS        10000 /* the relay should be back by then */

uint32_t restarting_window_ms(const struct member_host *members)
{
    size_t n = GT_MIN(members->n_members, (size_t)WINDOW_MAX_MS / WINDOW_OF_EACH_MS);

    return GT_MAX((uint32_t)n * WINDOW_OF_EACH_MS, (uint32_t)WINDOW_MIN_MS);
}

void restarting_tell(struct member_host *members, uint32_t window_ms)
{
    struct gt_control_frame frame = {.type = GT_CONTROL_RESTARTING};

    frame.restarting.reconnect_in_ms = window_ms;
    frame.restarting.try_for_ms = 2 * window_ms + RESTART_MS;
    gt_list_for_each_safe (at, next, &members->living)
        member_send(gt_list_entry(at, struct member, of_host), &frame);
}
