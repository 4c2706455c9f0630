/* SPDX-License-Identifier: ISC */
/*
 * How long to wait before the next try: 0.5 s, and twice as long after each that came to nothing,
 * up to 10 s; each 20 % shorter or longer by chance, so that what was cut off together does not
 * come back together.
 */
#pragma once

#include "gotthard/base.h"

struct gt_backoff { /* zero-initialise; zero again once it worked */
    unsigned n_tries;
};

/* Seconds. */
double gt_backoff_next(struct gt_backoff *backoff);
/* A moment of chance within @seconds: for many that were told of the same end. */
double gt_backoff_spread(double seconds);
