/* SPDX-License-Identifier: ISC */
/*
 * Detects that the relay no longer answers on the control connection. A PING is due after each
 * interval; any byte from the relay within three intervals shows that it is alive. A probe is
 * stricter: only the PONG of its own PING counts, and it must come within 5 s. The heartbeat
 * neither sends nor receives: it asks its owner to send, and its owner reports received bytes.
 *
 * Two others are separate on purpose, because both exist by the thousand in one process. The
 * relay's (control/client.c) sends a PING only to a client that was silent for longer than the
 * client's own interval. The data connection's (tunnel/data-connection.c) counts payload as a sign
 * of life, and leaves it to its stream which frame to send after silence. Both have one timer per
 * connection, set to a grid of points in time, so that one turn of the loop serves many of them.
 */
#pragma once

#include <ev.h>

#include "gotthard/base/base.h"

struct gt_heartbeat_events {
    /* Send a PING with this number. */
    void (*on_heartbeat)(void *userdata, uint64_t ping);
    /* The relay has not answered in time. Called again after as long, until gt_heartbeat_stop. */
    void (*on_timeout)(void *userdata);
};

struct gt_heartbeat { /* embedded in its owner */
    struct ev_loop *loop;
    struct gt_heartbeat_events events;
    void *userdata;
    const char *identity; /* borrowed, for the log */
    ev_timer next_ping, timeout;
    ev_tstamp interval_s;
    uint64_t n_pings; /* also the number of the last PING */
    uint64_t probe;   /* the PING that must be answered; 0: no probe is in progress */
};

/* Keeps @identity and @userdata, copies @events. Sends nothing before gt_heartbeat_start. */
void gt_heartbeat_init(struct gt_heartbeat *heartbeat, struct ev_loop *loop, const char *identity,
                       const struct gt_heartbeat_events *events, void *userdata);
/* Sets the interval of WELCOME, before gt_heartbeat_start. It comes from the peer: it is limited to
 * 500 ms to 15 s; 0 means 15 s. */
void gt_heartbeat_set_interval(struct gt_heartbeat *heartbeat, uint32_t interval_ms);
/* The first PING is due after one interval. */
void gt_heartbeat_start(struct gt_heartbeat *heartbeat);
/* No effect if it was not started. */
void gt_heartbeat_stop(struct gt_heartbeat *heartbeat);

/* Any byte was received. */
void gt_heartbeat_received(struct gt_heartbeat *heartbeat);
/* A PONG with the number @ping was received. */
void gt_heartbeat_received_pong(struct gt_heartbeat *heartbeat, uint64_t ping);
/* Sends a PING at once (on_heartbeat is called from inside). */
void gt_heartbeat_ping(struct gt_heartbeat *heartbeat);
/* Sends a PING at once (on_heartbeat is called from inside), which must be answered within 5 s,
 * whatever else is received. No effect while a probe is in progress. */
void gt_heartbeat_probe(struct gt_heartbeat *heartbeat);
