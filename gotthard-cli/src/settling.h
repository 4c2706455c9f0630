/* SPDX-License-Identifier: ISC */
/*
 * Decides when a broker has sent all retained messages of a subscription. MQTT does not mark the
 * last one. Many brokers keep the order of their packets on a connection: the answer (SUBACK) to a
 * later request, the marker, then comes behind the messages. Other brokers send retained messages
 * on their own time, so that a silence after the marker is necessary too. It grows with the round
 * trip of the markers, and a second marker must end it, because a pause of the network delays both.
 *
 * Pure: the caller passes the time, sends the markers and reports the events.
 */
#pragma once

#include "gotthard/base/base.h"

enum settling_action {
    SETTLING_WAIT, /* for an event, or until *ret_until */
    SETTLING_MARK, /* send a marker now and call settling_marked() */
    SETTLING_DONE,
    SETTLING_SILENT,  /* the broker stopped to answer */
    SETTLING_OVERDUE, /* new messages came for too long */
};

struct settling {
    double least_s;                    /* the shortest silence */
    double began_at, spoke_at, new_at; /* the last event; the last new message */
    double marked_at, answered_at;     /* of the last request */
    double round_trip_s;               /* the shortest so far */
    unsigned n_markers, n_quiet;       /* markers; the last ones that no new message preceded */
    bool is_outstanding;               /* a request without its answer */
    bool has_new;                      /* since the last request */
};

/* The subscription was sent. @least_s: the shortest silence, more than 0. */
void settling_begin(struct settling *settling, double least_s, double now);
/* A marker was sent. */
void settling_marked(struct settling *settling, double now);
/* The outstanding request was answered. */
void settling_answered(struct settling *settling, double now);
/* A message came. @is_new: it changed the list, as the first one of a device does. */
void settling_received(struct settling *settling, bool is_new, double now);
/* *ret_until: with SETTLING_WAIT, when to ask again without an event. */
enum settling_action settling_next(const struct settling *settling, double now, double *ret_until);
