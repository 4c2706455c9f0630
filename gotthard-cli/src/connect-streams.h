/* SPDX-License-Identifier: ISC */
/*
 * The output of `connect` about single connections: one log line for each, at its end
 * (tunnel/stream-log.h), and two JSON events. On a terminal only problems are shown, because a
 * program that uses the tunnel may write there.
 */
#pragma once

#include "gotthard/base/log.h"
#include "gotthard/signaling/exchange.h"
#include "gotthard/tunnel/stream-log.h"
#include "gotthard/tunnel/tunnel.h"
#include "local-listener.h"
#include "print.h"

struct open_stream;

struct connect_streams {
    struct print *print;      /* keeps */
    const char *device;       /* keeps */
    char services[160];       /* "ssh, web": that the device offers this operator; "": none known */
    struct open_stream *open; /* by number, with the local program's address */
    unsigned n_udp;           /* open ones of UDP */
    struct gt_stream_log log;
    struct gt_log_rate refused;
    double full_noted_at;        /* seconds of gt_clock(); 0: never */
    double turned_away_noted_at; /* likewise */
    unsigned n_turned_away;      /* since then */
};

void connect_streams_init(struct connect_streams *streams, struct ev_loop *loop,
                          struct print *print, const char *device);
void connect_streams_deinit(struct connect_streams *streams);
/* The device has answered, with the services that it offers. */
void connect_streams_answered(struct connect_streams *streams,
                              const struct gt_extensions *extensions);
/* Prints the sums of ended connections without a line of their own. */
void connect_streams_flush(struct connect_streams *streams);

/* @peer: the local program. */
void connect_streams_opened(struct connect_streams *streams, const char *service, uint32_t number,
                            const struct local_peer *peer);
/* A local connection was reset: it is of another user, or of an unknown one. Printed at most every
 * 10 s, because any user of the machine can cause it. */
void connect_streams_turned_away(struct connect_streams *streams, const char *service,
                                 const struct local_peer *peer, enum local_refusal why);
/* @err: the result of gt_tunnel_open. */
void connect_streams_refused(struct connect_streams *streams, const char *service, int err);
/* @n_up, @n_down: bytes sent to the device and received from it. */
void connect_streams_ended(struct connect_streams *streams, const char *service, uint32_t number,
                           enum gt_rst code, uint64_t n_up, uint64_t n_down);
/* No further connection is accepted until one ends; printed at most once a minute. @max: the limit
 * of the device. */
void connect_streams_full(struct connect_streams *streams, unsigned max);
