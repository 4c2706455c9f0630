/* SPDX-License-Identifier: ISC */
/*
 * The operator's session with one device, from the request to the end: the request over MQTT, the
 * tunnel through the relay, and their events. It knows no local port, no terminal and no exit
 * status, so that every command that needs a tunnel can use it.
 */
#pragma once

#include <ev.h>

#include "failure.h"
#include "gotthard/signaling/report.h"
#include "gotthard/tunnel/tunnel.h"
#include "identity.h"

struct session;

enum session_state {
    SESSION_NEW,        /* nothing is sent yet */
    SESSION_REQUESTING, /* waiting for the device's answer */
    SESSION_JOINING,    /* agreed; no data connection was up yet */
    SESSION_UP,
    SESSION_AWAY,    /* was up; waiting for the lost device or relay to return */
    SESSION_CLOSING, /* session_close() was called */
    SESSION_ENDED,
};

struct session_settings { /* kept until session_free */
    struct ev_loop *loop;
    struct gt_config *config; /* its secrets are wiped once the session is agreed */
    struct print *print;      /* for warnings about the configuration */
    const char *device;
    const char *service; /* the first one that will be opened */
    const char *purpose; /* of the session, for the device's log; NULL: none */
    double wait_s;       /* as in request_settings */
};

enum session_end_kind {
    SESSION_END_CLOSED, /* session_close() was called, and is done */
    SESSION_END_FAILED, /* by ->failure; also if the device has closed the tunnel */
};

struct session_end {
    enum session_end_kind kind;
    const char *reason;            /* one static word: "interrupted", "device", "lost", ... */
    bool is_bye_unsent;            /* CLOSED: the device was not notified */
    const struct failure *failure; /* FAILED; borrowed */
};

struct session_events {
    /* The connection to the MQTT broker is up. */
    void (*on_broker_connected)(void *userdata);
    /* As on_wait of request_events; perhaps NULL. */
    void (*on_wait)(void *userdata, const struct failure *why);
    /* The device agreed; @extensions of its answer, and @identity by whose rules the answer was
     * authenticated, borrowed. */
    void (*on_agreed)(void *userdata, const struct gt_extensions *extensions,
                      const struct identity *identity);
    /* Before on_up: the device reports about its way to the relay. */
    void (*on_report)(void *userdata, const struct gt_report *report);
    /* Before on_up: the device's agent has left the broker. */
    void (*on_offline)(void *userdata);
    /* Before on_up: the relay cannot be reached (for @why), and is tried again. */
    void (*on_relay_retry)(void *userdata, const struct gt_host_port *relay, const char *why);
    /* The tunnel is up for the first time, over the relay @host; @port is its data port. */
    void (*on_up)(void *userdata, const char *host, uint16_t port);
    /* As on_notice of gt_tunnel_events. */
    void (*on_notice)(void *userdata, enum gt_path_notice notice, const char *text);
    /* Perhaps before on_up: the device is lost (for @reason), or is there again. */
    void (*on_peer)(void *userdata, bool is_up, enum gt_code reason);
    /* Perhaps before on_up: the connection to the relay is lost (for @why), or is there again. */
    void (*on_relay)(void *userdata, enum gt_relay_change change, const char *why);
    /* The device has connected the target of @stream. NULL: not wanted. */
    void (*on_stream_connected)(void *userdata, uint32_t stream);
    /* As on_stream_end of gt_tunnel_events. */
    void (*on_stream_end)(void *userdata, const char *service, uint32_t stream, enum gt_rst code,
                          uint64_t n_up, uint64_t n_down);
    /* Last callback; @end is borrowed. Free the session from the next loop iteration on. */
    void (*on_end)(void *userdata, const struct session_end *end);
};

/* Loads the operator's keys and finds the relay's address; sends nothing. Returns 0, or 1 with
 * @ret_failure. */
int session_new(const struct session_settings *settings, const struct session_events *events,
                void *userdata, struct session **ret, struct failure *ret_failure) GT_MUST_CHECK;
/* Takes NULL; returns NULL. Ends without notifying the device. */
struct session *session_free(struct session *session);

/* Connects to the broker and sends the request. Once. Returns 0, or 1 with @ret_failure and
 * without a callback. Callbacks come from the loop. */
int session_start(struct session *session, struct failure *ret_failure) GT_MUST_CHECK;
/* Closes a session that is JOINING, UP or AWAY: streams are reset and the device is notified.
 * on_end follows within 2.5 s. */
void session_close(struct session *session);

/* Carries @local (takes it, also on failure; -1: session_serve_stream gives it later) to @service
 * of the device. Returns 0 with the stream's number in @ret_stream, or as gt_tunnel_open. */
int session_open_stream(struct session *session, struct gt_endpoint_fds local, const char *service,
                        uint32_t *ret_stream) GT_MUST_CHECK;

/* Gives a stream its local socket (takes @fd), once. */
void session_serve_stream(struct session *session, uint32_t stream, int fd);
/* Resets a stream; on_stream_end follows. No effect if it is over. */
void session_reset_stream(struct session *session, uint32_t stream);
/* The program that uses a stream is gone: what it has sent is delivered, and then its reset.
 * on_stream_end follows. */
void session_leave_stream(struct session *session, uint32_t stream);

/* As gt_streams_each. Takes NULL, and a session without a tunnel. */
void session_each_stream(const struct session *session, gt_streams_each_fn fn, void *userdata);
/* As gt_tunnel_waits. Takes NULL: returns false. */
bool session_waits(const struct session *session, struct gt_tunnel_wait *ret);
enum session_state session_state(const struct session *session);
/* True once on_up was called. */
bool session_was_up(const struct session *session);
/* True if a stream can be opened now: UP, with fewer streams than the device permits. */
bool session_has_room(const struct session *session);
/* The number of concurrent streams that the device permits; 0 before on_agreed. */
unsigned session_max_streams(const struct session *session);
/* The number of open streams. */
unsigned session_n_streams(const struct session *session);
/* The bytes of payload of all streams, open ones and ended ones. */
void session_byte_counts(const struct session *session, uint64_t *ret_up, uint64_t *ret_down);
/* Returns true when more than half of the lifetime that the device granted has passed. */
bool session_is_aging(const struct session *session);
/* The relay of the session. */
const struct gt_host_port *session_relay(const struct session *session);
