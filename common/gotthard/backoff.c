/* SPDX-License-Identifier: ISC */
/*
 * The arithmetic of patience. Must never wait for longer than a person would.
 */
#include "gotthard/backoff.h"

#include "gotthard/crypto.h"

#define FIRST_S .5
#define LAST_S  10.

double gt_backoff_next(struct gt_backoff *backoff)
{
    double wait = FIRST_S;
    uint16_t chance;

    for (unsigned i = 0; i < backoff->n_tries && wait < LAST_S; i++)
        wait *= 2;
    backoff->n_tries++;
    if (gt_random(&chance, sizeof(chance)))
        chance = UINT16_MAX / 2;
    return GT_MIN(wait, LAST_S) * (.8 + .4 * chance / UINT16_MAX);
}
