/* SPDX-License-Identifier: ISC */
/*
 * A client's control connection to a relay: a call (call.h), HELLO, RENDEZVOUS, and then SESSION,
 * PEER, TICKET, and heartbeats (pulse.h). One link is one session's; it tells its whole (tunnel.c)
 * by callbacks. States and their deadlines are one table; every state has one.
 */
#pragma once

#include <ev.h>

#include "gotthard/control.h"
#include "gotthard/down.h"
#include "gotthard/sock.h"

struct gt_link;

struct gt_link_settings { /* strings and keys copied */
    const char *host;
    uint16_t port;
    enum gt_role role;
    const char *name;          /* operator or device */
    const uint8_t *client_key; /* K_rc, GT_KEY_SIZE */
    const uint8_t *rid;        /* GT_RID_SIZE */
    uint32_t generation;       /* of its RENDEZVOUS */
    uint16_t port_hint;        /* the session's port, if the relay can; 0: any */
    uint32_t ttl_s;
    unsigned connect_timeout_ms; /* for all from resolving to WELCOME; 0: 15 s */
};

struct gt_link_events {
    /* SESSION: registered; @addr is the relay's address that worked, with the session's port in
     * @port. May come again when the port changes. */
    void (*on_session)(void *userdata, const struct gt_addr *addr, uint16_t port, bool is_peer_up);
    void (*on_peer)(void *userdata, bool is_up, enum gt_code reason);
    void (*on_ticket)(void *userdata, const struct gt_ticket *ticket);
    void (*on_stream_end)(void *userdata, uint32_t stream, uint32_t attempt, unsigned code);
    /* The link is about to be closed, and all others of that relay: come back at a moment of chance
     * within @reconnect_in_ms, and try for @try_for_ms. Any numbers: bound them. */
    void (*on_restarting)(void *userdata, uint32_t reconnect_in_ms, uint32_t try_for_ms);
    /* The link is over. @code: what the relay said last, GT_CODE_NONE when it said nothing. @why
     * for people ("connection refused"). Free it from the next turn on; no callback follows. */
    void (*on_down)(void *userdata, enum gt_down cause, enum gt_code code, const char *why);
};

/* Nothing is called inside: the first callback comes from the loop. */
int gt_link_new(struct ev_loop *loop, const struct gt_link_settings *settings,
                const struct gt_link_events *events, void *userdata,
                struct gt_link **ret) GT_MUST_CHECK;
/* BYE if it is up, best effort, then close. Not from inside its own callbacks. Takes NULL. */
struct gt_link *gt_link_free(struct gt_link *link);

enum {
    GT_LINK_E_FULL = 1, /* the relay does not read: nothing was queued */
    GT_LINK_E_OVER,     /* closing, or down */
};

/* Operator: asks for the ticket of a stream's attempt. May be called before SESSION (sent after
 * RENDEZVOUS). */
int gt_link_open(struct gt_link *link, uint32_t stream, uint32_t attempt) GT_MUST_CHECK;
/* Operator: nobody uses this stream (any more): it is no reason to keep the session. */
int gt_link_spare(struct gt_link *link, uint32_t stream, uint32_t attempt,
                  bool is_spare) GT_MUST_CHECK;
int gt_link_stream_end(struct gt_link *link, uint32_t stream, uint32_t attempt, unsigned code,
                       uint64_t n_up, uint64_t n_down) GT_MUST_CHECK;
/* Queues BYE (code) for the session; on_down follows when it is sent, or 1 s later. */
void gt_link_bye(struct gt_link *link, enum gt_code code);
/* The network has changed under it, or this machine has slept (@has_slept): a connection whose way
 * is gone is lost, on_down may come from inside; one that may be has 5 s to answer a PING. */
void gt_link_check(struct gt_link *link, bool has_slept);
/* Not connected yet? */
bool gt_link_is_dialling(const struct gt_link *link);
/* Was on_down called, or is it being? */
bool gt_link_is_over(const struct gt_link *link);
