/* SPDX-License-Identifier: ISC */
/*
 * One end of a session: a link to the relay and the conduits over it. gotthard-cli has one for an
 * operator, each worker of gotthard-agentd one for a device; they differ in who opens streams (the
 * operator) and who is asked for services (the device).
 *
 * Once it was up, a tunnel outlives its link: its presence (presence.h) dials the relay again and
 * says RENDEZVOUS with a greater generation, for up to resume_window; its streams do the same with
 * their carriers (conduit.h), each for itself. What was said goodbye to never comes back.
 */
#pragma once

#include <ev.h>

#include "gotthard/conduit.h"
#include "gotthard/link.h"

struct gt_tunnel;

struct gt_tunnel_settings { /* strings and keys copied */
    enum gt_role role;
    const char *relay_host;
    uint16_t relay_port;
    bool is_single_port;        /* data connections go to relay_port too */
    const char *name;           /* this side's: operator or device */
    const uint8_t *client_key;  /* K_rc */
    const uint8_t *session_key; /* K_sess */
    const uint8_t *rid;
    uint32_t lifetime_s; /* the session is closed after it; 0: the relay's own cap */
    unsigned max_streams;
    unsigned n_spares;    /* operator: streams kept ready, at most GT_SPARES_MAX; see spares.h */
    double spares_calm_s; /* as there; 0: GT_SPARES_CALM */
    size_t ring_size;
    unsigned peer_timeout_ms;  /* how long the other side may take to come at first; 0: 30 s */
    unsigned resume_window_ms; /* how long the link, the other side, or a stream's carrier may be
                                  lost before it is given up; 0: 120 s */
};

struct gt_tunnel_events {
    /* Both sides are registered at the relay: streams can be opened. Once. */
    void (*on_up)(void *userdata, uint16_t port);
    /* After on_up: the other side went, or came back; @reason as the relay says. */
    void (*on_peer)(void *userdata, bool is_up, enum gt_code reason);
    /* After on_up: the link is lost (@why), or it is back and the other side is there too. */
    void (*on_link)(void *userdata, bool is_up, const char *why);
    /* Device: a stream asks for @service. Answer with gt_conduit_serve or gt_conduit_refuse. */
    void (*on_service)(void *userdata, struct gt_conduit *conduit, const char *service);
    /* A stream is over (already freed after this returns). @code GT_RST_NONE: well. */
    void (*on_stream_end)(void *userdata, const char *service, uint32_t stream, enum gt_rst code,
                          uint64_t n_up, uint64_t n_down);
    /* The tunnel is over, all streams with it. GT_DOWN_CLOSED: this side closed it (GT_CODE_NONE;
     * GT_CODE_LOST: and could not tell the other), or the other did, politely (GT_CODE_BYE). @why
     * for people. Last callback; free it from the next turn on (not inside). */
    void (*on_down)(void *userdata, enum gt_down cause, enum gt_code code, const char *why);
};

int gt_tunnel_new(struct ev_loop *loop, const struct gt_tunnel_settings *settings,
                  const struct gt_tunnel_events *events, void *userdata,
                  struct gt_tunnel **ret) GT_MUST_CHECK;
struct gt_tunnel *gt_tunnel_free(struct gt_tunnel *tunnel);

enum {
    GT_TUNNEL_E_FULL = 1, /* max_streams */
    GT_TUNNEL_E_OVER,     /* closing, or down */
};

/* Operator: carries @local_fd (takes, also on failure) to @service; as soon as the tunnel is up. */
int gt_tunnel_open(struct gt_tunnel *tunnel, int local_fd, const char *service) GT_MUST_CHECK;
/* Says goodbye: streams are broken, BYE is sent (over one more link, if there is none now);
 * on_down(GT_DOWN_CLOSED) follows within 2 s. */
void gt_tunnel_close(struct gt_tunnel *tunnel);
/* The number of the stream opened last, as on_stream_end will tell it; 0: none yet. */
uint32_t gt_tunnel_last_stream(const struct gt_tunnel *tunnel);
/* Without spares, which are no business of the caller's. */
unsigned gt_tunnel_n_streams(const struct gt_tunnel *tunnel);
/* How many spares are up: each takes a local connection at once. */
unsigned gt_tunnel_n_ready(const struct gt_tunnel *tunnel);
bool gt_tunnel_is_up(const struct gt_tunnel *tunnel);
