/* SPDX-License-Identifier: ISC */
/* The parts of the load: its options, and one function for each word of the command line. */
#pragma once

#include <stdbool.h>

#include "endpoints.h"
#include "samples.h"

#define MESSAGE 64 /* bytes of a request and of its echo */

struct load {
    struct path path;
    unsigned n;
    double seconds, warm_up, gap;
    const char *counters;
};
extern struct load load;

/* Writes the reason, with errno, to standard error and exits with status 1. */
void fail(const char *what);
bool is_input_closed(void);
/* Blocks for one round trip of MESSAGE bytes on @fd. */
void exchange(int fd);
/* Prints "end VALUE P50 P99". */
void samples_say(struct samples *samples, double value);

/* load-bulk.c */
void load_up(void);
void load_down(void);
void load_beside(void);
/* load-connections.c */
void load_connect(void);
void load_burst(void);
void load_answer(void);
void load_hold(void);
void load_again(void);
