/* SPDX-License-Identifier: ISC */
/*
 * The parts of a channel: its stream and its local endpoint (channel.c), its path to the peer, over
 * one data connection after another (channel-path.c), and the look at a path that carries nothing
 * (channel-stall.c). Only these files include this header.
 */
#pragma once

#include "gotthard/tunnel/attempt-policy.h"
#include "gotthard/tunnel/channel.h"
#include "gotthard/tunnel/linger.h"
#include "gotthard/tunnel/pump.h"
#include "gotthard/tunnel/stall.h"

enum channel_state {
    CHANNEL_WAITING,    /* for a ticket: the first, or another */
    CHANNEL_CONNECTING, /* a data connection is dialed, joined and handshaken */
    CHANNEL_HELLO,      /* HELLO is exchanged both ways */
    CHANNEL_UP,
    CHANNEL_CLOSING, /* over: the last frames go out, and the peer's close_notify is awaited */
    CHANNEL_ENDED,   /* everything is closed; on_end is due */
};

struct gt_channel {
    struct gt_channel_settings settings;
    const struct gt_channel_events *events;
    void *userdata;

    enum channel_state state;
    ev_timer deadline;
    ev_timer update; /* an update is due that no descriptor causes */

    struct gt_stream stream;
    struct gt_data_connection *connection;
    struct gt_attempt_policy attempts;
    uint64_t n_moved_at_heartbeat; /* bytes */
    struct gt_stall stall;
    ev_timer look;      /* active while sent data is not acknowledged */
    uint16_t segment;   /* of the last data connection */
    bool is_black_hole; /* device: large packets were lost on it */

    bool is_service_requested; /* device: on_service was called */
    bool is_connect_reported;  /* operator: on_connected was called */
    struct gt_endpoint endpoint;
    struct gt_pump pump;
    struct gt_linger linger;
};

/* Enters @state and sets its deadline. */
void gt_channel_enter(struct gt_channel *channel, enum channel_state state);
/* The deadline of the state has expired. */
void gt_channel_on_deadline(struct ev_loop *loop, ev_timer *watcher, int revents);
/* Returns true if another data connection has something to do, and may be tried. */
bool gt_channel_may_retry(const struct gt_channel *channel);
/* The data connection is lost: the stream is parked for another, or its end is final. */
void gt_channel_lose_connection(struct gt_channel *channel);

/* Sets up the watch for a stall, and starts it if sent data is not acknowledged. */
void gt_channel_init_stall(struct gt_channel *channel);
void gt_channel_watch_stall(struct gt_channel *channel);

/* Moves bytes and acts on the state of the stream. The last statement of a handler. */
void gt_channel_update(struct gt_channel *channel);
/* Calls it from the next loop iteration. Public functions end with it, so that no callback comes
 * from inside them. */
void gt_channel_schedule_update(struct gt_channel *channel);
/* The handlers of a data connection. */
extern const struct gt_data_connection_events gt_channel_connection_events;
