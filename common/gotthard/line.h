/* SPDX-License-Identifier: ISC */
/*
 * A line speaks control frames over TLS: a queue of fixed size towards it, and frames cut out of
 * what comes. What is queued before there is a connection leaves with its first flight.
 */
#pragma once

#include "gotthard/control.h"
#include "gotthard/tls.h"

struct gt_line {
    struct gt_tls *tls; /* owns; NULL until gt_line_connect */
    uint8_t in[2 * GT_CONTROL_FRAME_MAX], out[8 * GT_CONTROL_FRAME_MAX];
    size_t n_in, n_out;
    uint64_t n_received; /* bytes, ever */
};

enum {
    GT_LINE_E_AGAIN = 1, /* wait for the socket */
    GT_LINE_E_FULL,      /* no room in the queue: the peer does not read */
    GT_LINE_E_CLOSED,    /* by the peer, in order */
    GT_LINE_E_BROKEN,    /* gt_tls_why() says how */
    GT_LINE_E_BAD,       /* what came is no frame */
    GT_LINE_E_HUNG_UP,   /* the callback did */
};

/* A zeroed line needs no other initialisation. */
void gt_line_deinit(struct gt_line *line);
/* Closes the connection, with a goodbye when it is open; what is queued stays. */
void gt_line_disconnect(struct gt_line *line);

/* E_FULL: and nothing was taken. @spare: bytes of the queue to leave free for what must get out. */
int gt_line_queue(struct gt_line *line, const struct gt_control_frame *frame,
                  size_t spare) GT_MUST_CHECK;
/* E_AGAIN, E_BROKEN. */
int gt_line_send(struct gt_line *line) GT_MUST_CHECK;

/* False: hang up, the rest of what came is for nobody. */
typedef bool (*gt_line_frame_fn)(void *userdata, struct gt_control_frame *frame);
/* Hears what there is, within a budget (0: there may be more). E_AGAIN, E_CLOSED, E_BROKEN, E_BAD,
 * E_HUNG_UP. */
int gt_line_receive(struct gt_line *line, gt_line_frame_fn on_frame, void *userdata) GT_MUST_CHECK;

bool gt_line_has_pending(const struct gt_line *line);
bool gt_line_wants_write(const struct gt_line *line);
/* Some of that was tried already, and the socket was full: wait until it can be written to. */
bool gt_line_is_stuck(const struct gt_line *line);
/* A peer that does not read our answers is not read. */
bool gt_line_wants_read(const struct gt_line *line);
