/* SPDX-License-Identifier: ISC */
/*
 * Telling the members that their connections are about to go, and how long to take for coming back:
 * a window in which each picks its own moment. A small relay has all of them back at once, a large
 * one is not run over by them.
 */
#pragma once

#include "member.h"

enum restarting {
    RESTARTING_PROCESS, /* the next one may take seconds to come */
    RESTARTING_IMAGE,   /* a live upgrade: the sockets listen all the while */
};

/* For as many as are here now. */
uint32_t restarting_window_ms(const struct member_host *members, enum restarting what);
/* RESTARTING to all of them; it goes out before the loop sleeps, before what is said to them after
 * it. */
void restarting_tell(struct member_host *members, uint32_t window_ms);
