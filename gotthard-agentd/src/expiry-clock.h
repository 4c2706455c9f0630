/* SPDX-License-Identifier: ISC */
/*
 * The time by which pins and entries of the access list expire: the wall clock, but never less than
 * a floor. A clock that is set back, or a boot without a battery, does not make an expired pin
 * valid again, nor a list younger.
 *
 * The floor is the latest trustworthy time plus the time that has passed since. A time of the wall
 * clock becomes trustworthy when the clock has run without a step for 10 minutes while the kernel
 * calls it synchronized, or for 24 hours otherwise. A wrong time in the future that was seen once
 * therefore locks no operator out. A time that the authority has signed is trustworthy at once. The
 * floor is kept in the file "clock" of the state folder; an
 * administrator who removes it, with the agent stopped, resets it.
 */
#pragma once

#include <time.h>

#include "gotthard/base/base.h"

#define EXPIRY_CLOCK_SYNCHRONIZED_MS (UINT64_C(600) * 1000)
#define EXPIRY_CLOCK_FREE_MS         (UINT64_C(24) * 3600 * 1000)

struct expiry_clock { /* fields are private */
    time_t floor;     /* at ->floor_ms; 0: none */
    uint64_t floor_ms;
    time_t steady; /* the wall clock at ->steady_ms, since when it has no step */
    uint64_t steady_ms;
    time_t saved;
    char *path; /* owned; NULL: not kept */
};

/* @folder: the state folder, with an owner and a mode that were checked, or NULL. @now_ms:
 * CLOCK_BOOTTIME, here and below. */
void expiry_clock_init(struct expiry_clock *clock, const char *folder, time_t wall,
                       uint64_t now_ms);
/* Saves the floor. */
void expiry_clock_deinit(struct expiry_clock *clock, uint64_t now_ms);
/* Returns the later of @wall and the floor. */
time_t expiry_clock_time(const struct expiry_clock *clock, time_t wall, uint64_t now_ms);
/* Raises the floor when the wall clock is trustworthy, and saves it about every 15 minutes. Call it
 * about every 30 s. */
void expiry_clock_observe(struct expiry_clock *clock, time_t wall, uint64_t now_ms,
                          bool is_synchronized);
/* Raises the floor to @time, if that is later, and saves it: an access list was issued then. */
void expiry_clock_raise(struct expiry_clock *clock, time_t time, uint64_t now_ms);
/* Returns true if the kernel's clock is synchronized (adjtimex(2)). */
bool expiry_clock_is_synchronized(void);
