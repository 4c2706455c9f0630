/* SPDX-License-Identifier: ISC */
/*
 * The delay before the next attempt: 0.5 s, doubled after each failure, at most 10 s. Each delay
 * varies by 20 % at random, so that clients that lost a relay together do not return together.
 */
#pragma once

#include "gotthard/base/base.h"

struct gt_backoff { /* zero-initialize; zero it again after a success */
    unsigned n_tries;
};

/* Returns the delay before the next attempt in seconds, 0.4 to 12, and counts the attempt. */
double gt_backoff_next(struct gt_backoff *backoff);
/* Returns a random number of seconds from 0 to @seconds: it spreads many clients that were notified
 * of the same event. */
double gt_backoff_spread(double seconds);
