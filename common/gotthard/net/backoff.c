/* SPDX-License-Identifier: ISC */
/*
 * Exponential back-off with jitter. Must never wait longer than a user would.
 */
#include "gotthard/net/backoff.h"

#include "gotthard/crypto/crypto.h"

#define FIRST_S .5
#define LAST_S  10.

/* A random number from 0 to 1; .5 without a random source. */
static double backoff_random(void)
{
    uint16_t random;

    return gt_random(&random, sizeof(random)) != 0 ? .5 : (double)random / UINT16_MAX;
}

double gt_backoff_spread(double seconds)
{
    return seconds * backoff_random();
}

double gt_backoff_next(struct gt_backoff *backoff)
{
    double wait = FIRST_S;

    for (unsigned i = 0; i < backoff->n_tries && wait < LAST_S; i++)
        wait *= 2;
    backoff->n_tries++;
    return GT_MIN(wait, LAST_S) * (.8 + .4 * backoff_random());
}
