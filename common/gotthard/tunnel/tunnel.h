/* SPDX-License-Identifier: ISC */
/*
 * One end of a session: a registration at the relay and the streams of the session. gotthard-cli
 * has a tunnel for an operator, each worker of gotthard-agentd one for a device. The operator's end
 * opens streams; the device's end connects them to services.
 *
 * Once it was up, a tunnel outlives its control connection: the registration (registration.h)
 * reconnects and sends RENDEZVOUS with a greater generation, for up to resume_window. The shared
 * connection of its streams is replaced likewise (shared-connection.h). After BYE nothing is
 * replaced.
 */
#pragma once

#include <ev.h>

#include "gotthard/relay/control-connection.h"
#include "gotthard/tunnel/channel.h"
#include "gotthard/tunnel/streams.h"

struct gt_tunnel;

struct gt_tunnel_settings { /* strings and keys are copied */
    enum gt_role role;
    const struct gt_host_port *relays; /* borrowed until gt_tunnel_free: the addresses of one relay,
                                          dialed in turn */
    size_t n_relays;                   /* at least 1 */
    const struct gt_proxy *proxy;      /* on the way to it; borrowed likewise; NULL: none */
    /* Taken by gt_tunnel_new, also on failure: as gt_reconnect_set_prepared. NULL: none */
    struct gt_control_connection *prepared;
    bool is_single_port;        /* data connections use the relay's main port from the start */
    const char *name;           /* this side's: operator or device */
    const uint8_t *client_key;  /* K_rc */
    const uint8_t *session_key; /* K_sess */
    const uint8_t *rid;
    uint32_t lifetime_s; /* of the session; 0: the relay's own limit */
    unsigned max_streams;
    /* Operator: time without streams until the shared connection is closed; 0: never. The next
     * stream opens it again. */
    unsigned shared_idle_ms;
    size_t ring_size;           /* bytes of one direction of a stream, at most */
    enum gt_record_suite suite; /* preferred for data connections (tls/suite-choice.h) */
    /* For this side to register at first, and from then on for the other side; 0: 30 s. */
    unsigned peer_timeout_ms;
    /* How long the control connection, the other side, or all data connections of a stream may be
     * lost before it is given up; 0: 120 s. */
    unsigned resume_window_ms;
    /* Without an answer of a target's or local client's machine, until its stream is reset; 0: 100
     * s.
     */
    unsigned vanished_ms;
    unsigned linger_ms; /* before a reset, without progress of the local socket; 0: 30 s */
};

/* Returns the limit of a stream's buffer in bytes: that of the setting, or the default of this
 * machine if it is 0. */
size_t gt_tunnel_ring_size(uint64_t setting);

struct gt_tunnel_events {
    /* Before on_up: the control connection could not be established, or was lost again (@why), and
     * is tried again. */
    void (*on_retry)(void *userdata, enum gt_end_reason cause, enum gt_code code, const char *why);
    /* Before on_up: this side is registered at the relay, and the other side is not yet. */
    void (*on_waiting)(void *userdata);
    /* A data connection has carried an authenticated round trip between the two ends: streams can
     * be opened. @port: of the relay, for data connections. Once. An operator's tunnel that gets
     * none ends. */
    void (*on_up)(void *userdata, uint16_t port);
    /* Something was learned of the way to the other side; @text is for people. */
    void (*on_notice)(void *userdata, enum gt_path_notice notice, const char *text);
    /* Once both sides were registered: the other one was lost, or is back; @reason is the relay's.
     */
    void (*on_peer)(void *userdata, bool is_up, enum gt_code reason);
    /* Likewise: the control connection is lost (@why), or it is back and the other side is
     * registered. */
    void (*on_relay_connection)(void *userdata, enum gt_relay_change change, const char *why);
    /* Device: a stream requests @service. Answer with gt_channel_serve or gt_channel_reject. */
    void (*on_service)(void *userdata, struct gt_channel *channel, const char *service);
    /* Operator: the device has connected the target of @stream. NULL: not wanted. */
    void (*on_connected)(void *userdata, uint32_t stream);
    /* A stream is over, and is freed after this returns. @code: GT_RST_NONE if it ended well. */
    void (*on_stream_end)(void *userdata, const char *service, uint32_t stream, enum gt_rst code,
                          uint64_t n_up, uint64_t n_down);
    /* The tunnel and all its streams are over. GT_END_CLOSED: this side closed it (GT_CODE_NONE, or
     * GT_CODE_LOST if the other side could not be informed), or the other side sent BYE
     * (GT_CODE_BYE). @why is for people. The last callback: free the tunnel from the next loop
     * iteration on, not inside it. */
    void (*on_down)(void *userdata, enum gt_end_reason cause, enum gt_code code, const char *why);
};

int gt_tunnel_new(struct ev_loop *loop, const struct gt_tunnel_settings *settings,
                  const struct gt_tunnel_events *events, void *userdata,
                  struct gt_tunnel **ret) GT_MUST_CHECK;
struct gt_tunnel *gt_tunnel_free(struct gt_tunnel *tunnel);

enum {
    GT_TUNNEL_E_FULL = 1, /* max_streams */
    GT_TUNNEL_E_OVER,     /* closing, or down */
};

/* Operator: connects @local (takes, also on failure) to @service, as soon as the tunnel is up. With
 * -1, gt_tunnel_serve gives it its local socket later. E_FULL, E_OVER, -ENOMEM. */
int gt_tunnel_open(struct gt_tunnel *tunnel, struct gt_endpoint_fds local,
                   const char *service) GT_MUST_CHECK;
/* Operator: resets one stream; its on_stream_end comes from a later loop iteration. No effect if
 * it is over. */
void gt_tunnel_reset_stream(struct gt_tunnel *tunnel, uint32_t stream);
/* Operator: the application of one stream is gone: as gt_channel_leave. */
void gt_tunnel_leave_stream(struct gt_tunnel *tunnel, uint32_t stream);
/* Operator: the local socket (takes @fd) of a stream that was opened without one. It is reset if
 * the stream is over. */
void gt_tunnel_serve(struct gt_tunnel *tunnel, uint32_t stream, int fd);
/* Resets the streams and sends BYE, over one more control connection if there is none now.
 * on_down(GT_END_CLOSED) follows within 2 s. */
void gt_tunnel_close(struct gt_tunnel *tunnel);
/* The same for a session that is no longer granted, with a BYE of its own code.
 * on_down(GT_END_WITHDRAWN) follows within 2 s. */
void gt_tunnel_withdraw(struct gt_tunnel *tunnel);
/* The number of the stream opened last, as on_stream_end reports it; 0: none yet. */
uint32_t gt_tunnel_last_stream(const struct gt_tunnel *tunnel);
unsigned gt_tunnel_n_streams(const struct gt_tunnel *tunnel);
/* Adds up the bytes of payload of the streams that are not over yet. */
void gt_tunnel_byte_counts(const struct gt_tunnel *tunnel, uint64_t *ret_up, uint64_t *ret_down);
/* As gt_streams_each. */
void gt_tunnel_each_stream(const struct gt_tunnel *tunnel, gt_streams_each_fn fn, void *userdata);
bool gt_tunnel_is_up(const struct gt_tunnel *tunnel);

/* How a tunnel that was up waits for what it has lost. */
struct gt_tunnel_wait {
    bool is_relay_lost;  /* the connection to the relay; otherwise the other side */
    unsigned n_attempts; /* relay: to reach it, since the loss, with one that is in progress */
    double next_s;       /* relay: seconds to the next attempt; 0: one is in progress */
    double left_s;       /* seconds until the tunnel gives up */
};
/* Returns false if the tunnel does not wait. */
bool gt_tunnel_waits(struct gt_tunnel *tunnel, struct gt_tunnel_wait *ret);
