/* SPDX-License-Identifier: ISC */
/*
 * The operator's spares: streams kept open without a service. A local connection over a spare takes
 * half a round trip, instead of the three round trips of a ticket, a JOIN and a handshake. This
 * module decides how many spares to keep, when to open the next one, and how long to open none for
 * a peer that rejects them. channel.h implements a spare, streams.h stores it.
 *
 * One spare suffices for one connection at a time. A browser opens six at once, and a script opens
 * one after another, faster than a spare is ready. Whenever a local connection soon after another
 * finds no spare ready, the number to keep doubles, up to GT_SPARES_MAX. It falls back when no
 * local connection arrives for GT_SPARES_IDLE.
 */
#pragma once

#include "gotthard/net/backoff.h"
#include "gotthard/tunnel/streams.h"

#define GT_SPARES_MAX  8
#define GT_SPARES_IDLE 60.0 /* seconds */

struct gt_spares {
    struct ev_loop *loop;
    struct gt_streams *streams; /* keeps */
    unsigned n_least;           /* to keep at least; 0: spares are disabled */
    unsigned n_wanted;          /* to keep now */
    double idle_s;
    double last_connection_at; /* of a local connection, by gt_clock(); 0: none yet */
    ev_timer idle;             /* no local connection for idle_s */
    ev_timer due;              /* to open spares */
    struct gt_backoff backoff; /* after losses of spares */
    double rejected_until;     /* by gt_clock() */
    bool is_proof_due;         /* one is wanted in any case: no data connection was up yet */
};

/* @idle_s: 0: GT_SPARES_IDLE. */
void gt_spares_init(struct gt_spares *spares, struct ev_loop *loop, struct gt_streams *streams,
                    unsigned n_least, double idle_s);
void gt_spares_deinit(struct gt_spares *spares);

/* Opens one spare in any case, as the proof that a data connection comes about, unless another
 * stream is opened first. Before gt_spares_start. */
void gt_spares_require_proof(struct gt_spares *spares);
/* A data connection is up: a spare that only served as the proof is closed. */
void gt_spares_on_proof(struct gt_spares *spares);
/* The device can be reached, or soon will be: spares are opened from the next loop iteration on. */
void gt_spares_start(struct gt_spares *spares);
/* The device cannot be reached: no more spares are opened. */
void gt_spares_pause(struct gt_spares *spares);
/* As gt_streams_open, over a spare if there is one. The spare is replaced. */
int gt_spares_open(struct gt_spares *spares, struct gt_endpoint_fds local,
                   const char *service) GT_MUST_CHECK;
/* A stream has ended: there may be room again. */
void gt_spares_on_room(struct gt_spares *spares);
/* A spare is over. It is replaced, with back-off. */
void gt_spares_on_end(struct gt_spares *spares, enum gt_rst code);
