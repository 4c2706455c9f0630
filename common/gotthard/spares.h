/* SPDX-License-Identifier: ISC */
/*
 * The operator's spares: streams kept open without a service, so that the next local connection
 * costs one trip one way, and not the three of a ticket, a JOIN and a handshake. How many, when the
 * next one is opened, and how long to leave a peer alone that wants none is decided here; what a
 * spare is, is conduit.h's, and where they are kept, streams.h's.
 *
 * Who uses one connection at a time needs one spare. A browser opens six at once, and a script one
 * after another, faster than a spare comes: whenever one that comes soon after another finds none
 * ready, twice as many are kept from then on, up to GT_SPARES_MAX, until nobody comes for
 * GT_SPARES_CALM.
 */
#pragma once

#include "gotthard/backoff.h"
#include "gotthard/streams.h"

#define GT_SPARES_MAX  8
#define GT_SPARES_CALM 60.0 /* seconds */

struct gt_spares {
    struct ev_loop *loop;
    struct gt_streams *streams; /* keeps */
    unsigned n_least;           /* 0: nothing here ever does anything */
    unsigned n_wanted;          /* now */
    double calm_s;
    double came;               /* the last local connection, by gt_clock() */
    ev_timer calm;             /* nobody came for so long */
    ev_timer due;              /* to open some */
    struct gt_backoff backoff; /* of those that were lost */
    double refused_until;      /* by gt_clock() */
};

/* @calm_s: 0: GT_SPARES_CALM. */
void gt_spares_init(struct gt_spares *spares, struct ev_loop *loop, struct gt_streams *streams,
                    unsigned n_least, double calm_s);
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
