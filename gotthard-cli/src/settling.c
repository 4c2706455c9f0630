/* SPDX-License-Identifier: ISC */
/* The times are seconds of one clock; see the header. */
#include "settling.h"

#include <math.h>

#define ROUND_TRIPS 2    /* of silence */
#define SILENCE_MAX 5.   /* s, however long a round trip took */
#define QUIET       2    /* markers in a row without a new message */
#define ANSWER_S    60.  /* for an answer, from the last packet that came */
#define OVERDUE_S   600. /* for the whole */

void settling_begin(struct settling *settling, double least_s, double now)
{
    *settling = (struct settling){
        .least_s = least_s,
        .round_trip_s = INFINITY,
        .began_at = now,
        .spoke_at = now,
        .new_at = now,
        .marked_at = now,
        .is_outstanding = true,
    };
}

void settling_marked(struct settling *settling, double now)
{
    settling->marked_at = now;
    settling->spoke_at = now;
    settling->is_outstanding = true;
    settling->has_new = false;
    settling->n_markers++;
}

void settling_answered(struct settling *settling, double now)
{
    if (!settling->is_outstanding)
        return;
    settling->is_outstanding = false;
    settling->spoke_at = settling->answered_at = now;
    settling->round_trip_s = GT_MIN(settling->round_trip_s, now - settling->marked_at);
    if (settling->n_markers > 0)
        settling->n_quiet = settling->has_new ? 0 : settling->n_quiet + 1;
}

void settling_received(struct settling *settling, bool is_new, double now)
{
    settling->spoke_at = now;
    if (!is_new)
        return;
    settling->new_at = now;
    settling->has_new = true;
    settling->n_quiet = 0;
}

/* The first marker follows the answer to the subscription at once, and measures the round trip. */
static double silence_s(const struct settling *settling)
{
    double wanted = GT_MAX(ROUND_TRIPS * settling->round_trip_s, settling->least_s);

    return settling->n_markers == 0 ? 0 : GT_MIN(wanted, GT_MAX(SILENCE_MAX, settling->least_s));
}

enum settling_action settling_next(const struct settling *settling, double now, double *ret_until)
{
    double end = settling->began_at + OVERDUE_S;
    double until = settling->is_outstanding
                       ? settling->spoke_at + ANSWER_S
                       : GT_MAX(settling->answered_at, settling->new_at) + silence_s(settling);

    if (settling->n_quiet >= QUIET)
        return SETTLING_DONE;
    if (now >= end)
        return SETTLING_OVERDUE;
    if (now >= until)
        return settling->is_outstanding ? SETTLING_SILENT : SETTLING_MARK;
    *ret_until = GT_MIN(until, end);
    return SETTLING_WAIT;
}
