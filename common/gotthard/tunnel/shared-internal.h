/* SPDX-License-Identifier: ISC */
/*
 * The parts of a shared connection: its data connections, one after another (shared-connection.c),
 * and the records on the present one (shared-io.c). Only these files include this header.
 */
#pragma once

#include "gotthard/tunnel/attempt-policy.h"
#include "gotthard/tunnel/shared-connection.h"

enum shared_state {
    SHARED_IDLE,       /* not wanted, or given up. The device still accepts a ticket */
    SHARED_WAITING,    /* for a ticket: the first, or another */
    SHARED_CONNECTING, /* a data connection is dialed, joined and handshaken */
    SHARED_UP,
    SHARED_FAILED,  /* the data connection is given up; its members learn that at once */
    SHARED_CLOSING, /* close_notify is sent */
};

struct gt_shared_connection {
    struct gt_shared_connection_settings settings;
    const struct gt_shared_connection_events *events;
    void *userdata;

    enum shared_state state;
    /* Operator: since _resume. Device: since a ticket, until the operator closes. */
    bool is_wanted;
    ev_timer deadline;
    struct gt_attempt_policy attempts;
    double up_at;    /* of the last data connection that was up */
    double acked_at; /* a member's data was last acknowledged */
    double busy_at;  /* a record was last sent or received */
    bool is_urgent;  /* the next ticket is requested without back-off */

    struct gt_data_connection *connection;
    uint16_t segment;   /* of TCP, of the last data connection */
    bool is_black_hole; /* device: large packets were lost on it */
    bool is_probe_due, is_check_due, has_slept;

    struct gt_multiplexer mux;
    ev_prepare prepare; /* active: output, or a probe, is due before the loop waits */
};

/* The data connection is of no use: it is replaced from the next loop iteration on. */
void gt_shared_fail(struct gt_shared_connection *shared);

void gt_shared_io_init(struct gt_shared_connection *shared);
/* The data connection is lost, and with it all that waits for it. */
void gt_shared_io_stop(struct gt_shared_connection *shared);
/* Has gt_shared_io_send called at the end of this loop iteration. @shared: gt_shared_connection. */
void gt_shared_io_schedule(void *shared);
/* Gives turns as long as the data connection has room. */
void gt_shared_io_send(struct gt_shared_connection *shared);
/* Passes on the records that have arrived, and settles their members. */
void gt_shared_io_receive(struct gt_shared_connection *shared);
