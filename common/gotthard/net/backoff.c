/* SPDX-License-Identifier: ISC */
/*
 * The arithmetic of patience. Must never wait for longer than a person would.
 */
#include "gotthard/backoff.h"

#include "gotthard/crypto.h"

#define FIRST_S .5
#define LAST_S  10.

/* From 0 to 1. */
static double backoff_chance(void)
{
    uint16_t chance;

    return gt_random(&chance, sizeof(chance)) ? .5 : (double)chance / UINT16_MAX;
}

double gt_backoff_spread(double seconds)
{
    return seconds * backoff_chance();
}

double gt_backoff_next(struct gt_backoff *backoff)
{
    double wait = FIRST_S;

    for (unsigned i = 0; i < backoff->n_tries && wait < LAST_S; i++)
        wait *= 2;
    backoff->n_tries++;
    return GT_MIN(wait, LAST_S) * (.8 + .4 * backoff_chance());
}
