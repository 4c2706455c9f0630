/* SPDX-License-Identifier: ISC */
/*
 * The operator's spares: streams kept open without a service, so that the next local connection
 * costs one trip one way, and not the three of a ticket, a JOIN and a handshake. How many, when the
 * next one is opened, and how long to leave a peer alone that wants none is decided here; what a
 * spare is, is conduit.h's, and where they are kept, streams.h's.
 */
#pragma once

#include "gotthard/backoff.h"
#include "gotthard/streams.h"

#define GT_SPARES_MAX 8

struct gt_spares {
    struct ev_loop *loop;
    struct gt_streams *streams; /* keeps */
    unsigned n_wanted;          /* 0: nothing here ever does anything */
    ev_timer due;               /* to open some */
    struct gt_backoff backoff;  /* of those that were lost */
    double refused_until;       /* by gt_clock() */
};

void gt_spares_init(struct gt_spares *spares, struct ev_loop *loop, struct gt_streams *streams,
                    unsigned n_wanted);
void gt_spares_deinit(struct gt_spares *spares);

/* There is a way to the device, or will be: they are opened from the next turn of the loop on. */
void gt_spares_begin(struct gt_spares *spares);
/* There is none: no more are opened. */
void gt_spares_rest(struct gt_spares *spares);
/* As gt_streams_open, over a spare if there is one, which is replaced. */
int gt_spares_open(struct gt_spares *spares, int local_fd, const char *service) GT_MUST_CHECK;
/* Streams are fewer: there may be room again. */
void gt_spares_on_room(struct gt_spares *spares);
/* One is over: it is replaced, later and later. */
void gt_spares_on_end(struct gt_spares *spares, enum gt_rst code);
