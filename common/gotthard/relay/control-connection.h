/* SPDX-License-Identifier: ISC */
/*
 * A client's control connection to a relay (docs/protocol.md section 3): TLS dial (tls-dial.h),
 * HELLO and RENDEZVOUS, then SESSION, PEER, TICKET and heartbeats (net/heartbeat.h). It belongs to
 * one session and reports to its owner (tunnel/registration.h) by callbacks. It is used once: when
 * it has ended, the owner creates another (reconnect.h).
 */
#pragma once

#include <ev.h>

#include "gotthard/base/proxy.h"
#include "gotthard/net/host-port.h"
#include "gotthard/net/proxy-handshake.h"
#include "gotthard/net/sock.h"
#include "gotthard/proto/control.h"
#include "gotthard/relay/end-reason.h"

#define GT_CONTROL_CONNECTION_WHY GT_PROXY_HANDSHAKE_WHY /* bytes of an end reason with its NUL */

struct gt_control_connection;

struct gt_control_connection_settings { /* strings, keys and the relay are copied */
    const struct gt_host_port *relay;   /* its address */
    const struct gt_proxy *proxy;       /* kept; NULL: the relay is connected directly */
    enum gt_role role;
    const char *name;            /* operator or device */
    const uint8_t *client_key;   /* K_rc, GT_KEY_SIZE */
    const uint8_t *rid;          /* GT_RID_SIZE; NULL: gt_control_connection_register follows */
    uint32_t generation;         /* of RENDEZVOUS */
    uint16_t port_hint;          /* the session port to request; 0: any */
    uint32_t ttl_s;              /* lifetime to request; 0: the relay's maximum */
    unsigned connect_timeout_ms; /* from resolving to WELCOME; 0: 15 s */
    bool has_large_segments;     /* for gt_control_connection_probe; others use small ones */
};

struct gt_control_connection_events {
    /* SESSION: registered. @addr is the address that accepted: the relay's,
     * or the proxy's with the relay's main port. @port is the session port.
     * Called again if the port changes. */
    void (*on_session)(void *userdata, const struct gt_addr *addr, uint16_t port, bool is_peer_up);
    /* The other side registered or left; @reason is the relay's. */
    void (*on_peer)(void *userdata, bool is_up, enum gt_code reason);
    void (*on_ticket)(void *userdata, const struct gt_ticket *ticket);
    void (*on_stream_end)(void *userdata, uint32_t stream, uint32_t attempt, unsigned code);
    /* RESTARTING: the relay is about to close all connections. Reconnect after a random delay of at
     * most @reconnect_in_ms, and try for @try_for_ms. Both are unchecked numbers of the peer. */
    void (*on_restart_notice)(void *userdata, uint32_t reconnect_in_ms, uint32_t try_for_ms);
    /* It has ended; no callback follows. @code is that of the relay's BYE or ERROR, or
     * GT_CODE_NONE.
     * @why is a text for people ("Connection refused"). Free it from the next turn of the loop on.
     */
    void (*on_down)(void *userdata, enum gt_end_reason reason, enum gt_code code, const char *why);
};

/* Starts to dial. The first callback comes from the loop, never inside this call. -ENOMEM, or as
 * gt_tls_dial_init. */
int gt_control_connection_new(struct ev_loop *loop,
                              const struct gt_control_connection_settings *settings,
                              const struct gt_control_connection_events *events, void *userdata,
                              struct gt_control_connection **ret) GT_MUST_CHECK;
/*
 * Without ->rid: sends RENDEZVOUS with @settings' rid, generation, port_hint and ttl_s, and changes
 * the events and their @userdata. The time limits of the attempt continue. It must be called within
 * 30 s, or the connection ends. E_FULL; E_OVER if it has ended: nothing has changed then.
 */
int gt_control_connection_register(struct gt_control_connection *control,
                                   const struct gt_control_connection_settings *settings,
                                   const struct gt_control_connection_events *events,
                                   void *userdata) GT_MUST_CHECK;
/* Sends BYE (best effort) if it was connected for a session, and closes. Not from inside its
 * callbacks. Takes NULL; returns NULL. */
struct gt_control_connection *gt_control_connection_free(struct gt_control_connection *control);

/* Sends a PING now, if it is registered; the answer changes what the next function returns. */
void gt_control_connection_ping(struct gt_control_connection *control);
/* The same behind more bytes than two packets take. The relay receives large packets if nothing is
 * in flight afterwards, and the settings permit them. Returns true if it was queued. */
bool gt_control_connection_probe(struct gt_control_connection *control);
/* Returns true if the relay's kernel has not acknowledged everything that was sent or queued. */
bool gt_control_connection_is_in_flight(const struct gt_control_connection *control);
/* Returns the time of the last byte from the relay, in seconds of gt_clock(); 0: not yet. */
double gt_control_connection_received_at(const struct gt_control_connection *control);
/* Returns the round trip to the relay in seconds; 0: unknown. */
double gt_control_connection_rtt(const struct gt_control_connection *control);

enum {
    GT_CONTROL_CONNECTION_E_FULL = 1, /* the relay does not read; nothing was queued */
    GT_CONTROL_CONNECTION_E_OVER,     /* closing or ended */
};

/* Operator: requests a ticket for an attempt of a stream (OPEN), for data connections with TCP
 * segments of at most @segment bytes (0: no limit). May be called before SESSION: it leaves after
 * RENDEZVOUS. E_FULL, E_OVER. */
int gt_control_connection_request_ticket(struct gt_control_connection *control, uint32_t stream,
                                         uint32_t attempt, uint16_t segment) GT_MUST_CHECK;
/* Operator: reports how many streams the session has (LOAD). It is
 * valid for this control connection only: report it again on the next one, after
 * gt_control_connection_new, unless it is 0. E_FULL, E_OVER. */
int gt_control_connection_set_load(struct gt_control_connection *control,
                                   uint32_t n_streams) GT_MUST_CHECK;
/* Reports the end of a stream's attempt, with the bytes from operator to device (@n_up) and back.
 * E_FULL, E_OVER. */
int gt_control_connection_stream_end(struct gt_control_connection *control, uint32_t stream,
                                     uint32_t attempt, unsigned code, uint64_t n_up,
                                     uint64_t n_down) GT_MUST_CHECK;
/* Sends BYE with @code; on_down follows when the relay has closed, at the latest after 1 s. No
 * effect when closing. */
void gt_control_connection_bye(struct gt_control_connection *control, enum gt_code code);
/* The network has changed, or this machine has slept (@has_slept). Without a route the connection
 * is lost, and on_down may come from inside; in doubt the relay has 5 s to answer a PING. */
void gt_control_connection_check(struct gt_control_connection *control, bool has_slept);
/* Returns true until TCP is connected. */
bool gt_control_connection_is_dialing(const struct gt_control_connection *control);
/* Returns true after on_down was called, and inside it. */
bool gt_control_connection_is_over(const struct gt_control_connection *control);
