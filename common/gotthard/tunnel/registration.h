/* SPDX-License-Identifier: ISC */
/*
 * Keeps this side registered in its relay session, over one control connection after another, and
 * tracks whether the other side is registered. Once both sides were registered, a lost control
 * connection is replaced (relay/reconnect.h) for up to the resume window, and the registration
 * waits equally long for the other side.
 *
 * The streams get their tickets and their control connection from here. The tunnel decides when it
 * ends; the registration sends the BYE for it.
 */
#pragma once

#include <ev.h>

#include "gotthard/net/netwatch.h"
#include "gotthard/relay/reconnect.h"
#include "gotthard/tunnel/streams.h"

struct gt_registration_settings {
    const struct gt_host_port *relays; /* borrowed; see gt_reconnect_init */
    size_t n_relays;
    struct gt_control_connection_settings control; /* as for gt_reconnect_init */
    unsigned peer_timeout_ms;  /* for this side to register at first, and then for the other side;
                                  0: 30 s */
    unsigned resume_window_ms; /* 0: 120 s */
};

struct gt_registration_events {
    /* Before on_up: this side could not register, or was lost again (@why), and tries again. */
    void (*on_retry)(void *userdata, enum gt_end_reason cause, enum gt_code code, const char *why);
    /* Before on_up: this side is registered, the other side is not yet. */
    void (*on_waiting)(void *userdata);
    /* Both sides are registered. Once. */
    void (*on_up)(void *userdata, uint16_t port);
    /* After on_up: the other side was lost, or is back; @reason is the relay's. */
    void (*on_peer)(void *userdata, bool is_up, enum gt_code reason);
    /* After on_up: the control connection is lost (@why), or it is back and the other side is
     * registered. */
    void (*on_relay_connection)(void *userdata, enum gt_relay_change change, const char *why);
    /* Before each of these: the other side can be reached, or not. May repeat the same value. */
    void (*on_reachable)(void *userdata, bool is_reachable);
    /* The registration is given up, or the session is over; as after gt_registration_end. */
    void (*on_over)(void *userdata, enum gt_end_reason cause, enum gt_code code, const char *why);
    /* After gt_registration_close: the last callback. @is_bye_sent: the relay got BYE, or needs
     * none. Free the registration from the next loop iteration on. */
    void (*on_closed)(void *userdata, bool is_bye_sent);
};

enum gt_registration_state {
    GT_REGISTRATION_REGISTERING, /* the first control connection is being established */
    GT_REGISTRATION_RETRYING,    /* it failed; the next one is scheduled */
    GT_REGISTRATION_WAITING,     /* registered; the other side is not yet */
    GT_REGISTRATION_ESTABLISHED,
    GT_REGISTRATION_PEER_LOST,    /* the other side was registered and is not now */
    GT_REGISTRATION_DISCONNECTED, /* no control connection; the next attempt is scheduled */
    GT_REGISTRATION_RECONNECTING, /* another control connection is being established */
    GT_REGISTRATION_ENDED,        /* the streams end; the control connection reports their ends */
    GT_REGISTRATION_CLOSING,      /* BYE is being sent */
    GT_REGISTRATION_CLOSED,
};

struct gt_registration { /* embedded in its tunnel */
    struct ev_loop *loop;
    enum gt_registration_state state;
    struct gt_registration_events events;
    void *userdata;
    struct gt_streams *streams; /* keeps */
    ev_tstamp peer_timeout;
    struct gt_reconnect reconnect;      /* its window is open while the state is not ESTABLISHED */
    bool was_registered;                /* once */
    bool has_failed;                    /* an attempt before the first success, */
    enum gt_end_reason cause;           /* its end reason, */
    enum gt_code code;                  /* and the relay's code */
    bool is_control_lost, is_peer_lost; /* the loss was reported, and the return is not yet */
    unsigned n_attempts;                /* to replace the control connection, since its loss */
    enum gt_code bye;                   /* of the BYE, while closing */
    bool is_bye_due; /* ended without a control connection: the next one is for BYE */
    struct gt_control_connection *control;
    struct gt_addr relay; /* address of data connections */
    struct gt_netwatch netwatch;
    ev_timer deadline, lifetime;
    char why[GT_CONTROL_CONNECTION_WHY]; /* reason of the last failure or loss of the control
                                            connection */
};

/* Dials nothing yet. @streams must be initialized by gt_registration_start. */
void gt_registration_init(struct gt_registration *registration, struct ev_loop *loop,
                          const struct gt_registration_settings *settings,
                          struct gt_streams *streams, const struct gt_registration_events *events,
                          void *userdata);
/* After gt_streams_deinit: the streams use the control connection. */
void gt_registration_deinit(struct gt_registration *registration);

/* As gt_control_connection_new. */
int gt_registration_start(struct gt_registration *registration) GT_MUST_CHECK;
/* This side ends it: only gt_registration_close and then on_closed follow. */
void gt_registration_end(struct gt_registration *registration);
/* After the end: sends BYE (@code) to the relay, over one more control connection if there was none
 * at the end. on_closed follows within 1.1 s, perhaps from inside. */
void gt_registration_close(struct gt_registration *registration, enum gt_code code);

/* Returns "device" or "operator": the role of the other side. */
const char *gt_registration_peer_role(const struct gt_registration *registration);
