/* SPDX-License-Identifier: ISC */
/*
 * Creates the control connections of a tunnel: the first one, and another when one is lost. It
 * keeps the parameters that all of them share, decides whether another attempt is useful, after
 * which delay (net/backoff.h), and until when. It has no timer: its owner calls it.
 */
#pragma once

#include "gotthard/net/backoff.h"
#include "gotthard/relay/control-connection.h"

/* All times are seconds by gt_clock(). */
struct gt_reconnect {
    const struct gt_host_port *relays; /* borrowed */
    size_t n_relays;
    const struct gt_proxy *proxy;           /* borrowed; NULL: none */
    struct gt_control_connection *prepared; /* owned; for the first connection; NULL: none */
    char name[GT_NAME_MAX + 1];
    enum gt_role role;
    uint8_t client_key[GT_KEY_SIZE], rid[GT_RID_SIZE];
    uint32_t generation;    /* of the newest connection */
    uint16_t session_port;  /* assigned by the relay; 0: none yet */
    double lifetime_s;      /* of the session; 0: no limit of its own */
    double started_at;      /* of the lifetime; 0: not registered yet */
    unsigned attempt_ms;    /* time limit of one attempt */
    double window;          /* seconds */
    double give_up_at;      /* the end of the window; 0 while none is open */
    double full_window_end; /* the same without gt_reconnect_shorten */
    double restart_until;   /* a loss before this time counts as caused by a restart notice */
    double spread, try_for; /* seconds, of the restart notice */
    double next_at;         /* time of the random attempt chosen for the restart */
    double dialed_at;       /* the newest connection */
    double retried_at;      /* the last gt_reconnect_retry_now, past or to come */
    struct gt_backoff backoff;
};

/*
 * The addresses @relays[] belong to one relay and are dialed in turn; keeps the array, which has at
 * least one, and @control's ->proxy. Copies what @control points to besides; its ->relay is
 * ignored, its ttl_s is the whole lifetime. @window_ms 0: 120 s.
 */
void gt_reconnect_init(struct gt_reconnect *reconnect, const struct gt_host_port *relays,
                       size_t n_relays, const struct gt_control_connection_settings *control,
                       unsigned window_ms);
/* Takes a connection that was begun without a session, to the first address. It serves as the first
 * connection, unless it has ended. */
void gt_reconnect_set_prepared(struct gt_reconnect *reconnect,
                               struct gt_control_connection *prepared);
/* Wipes the key. */
void gt_reconnect_deinit(struct gt_reconnect *reconnect);

/* As gt_control_connection_new, with a greater generation each time. */
int gt_reconnect_connect(struct gt_reconnect *reconnect, struct ev_loop *loop,
                         const struct gt_control_connection_events *events, void *userdata,
                         struct gt_control_connection **ret) GT_MUST_CHECK;
/* Returns the address of the newest connection. */
const struct gt_host_port *gt_reconnect_relay(const struct gt_reconnect *reconnect);
/* A connection was registered with the session port @port: the next one requests that port. The
 * lifetime starts with the first. */
void gt_reconnect_on_registered(struct gt_reconnect *reconnect, uint16_t port);

/*
 * The relay will close the connection in order to restart. If it is lost within 60 s, the first
 * attempt follows after a random delay of at most @reconnect_in_ms, and the window is at least
 * @try_for_ms. Both numbers come from the peer and are limited.
 */
void gt_reconnect_on_restart_notice(struct gt_reconnect *reconnect, uint32_t reconnect_in_ms,
                                    uint32_t try_for_ms);
/* Returns true if a connection that was just lost with @code was closed by a live upgrade: the
 * relay sent the notice a moment ago, and no BYE. Before gt_reconnect_delay. */
bool gt_reconnect_is_upgrade(const struct gt_reconnect *reconnect, enum gt_code code);
/* Returns the seconds left of the lifetime, at least 1; 0: no limit of its own. */
uint32_t gt_reconnect_ttl(const struct gt_reconnect *reconnect);

/* Returns the time limit in milliseconds of one attempt to register within @seconds. */
unsigned gt_reconnect_attempt_ms(double seconds);
/* Opens a window of @seconds, whether one is open or not: the time to register at first. It has
 * room for three attempts of 1 s or more. */
void gt_reconnect_open(struct gt_reconnect *reconnect, double seconds);
/* Opens the window, unless it is open: the connection or the other side was lost. */
void gt_reconnect_start(struct gt_reconnect *reconnect);
/* The other side will probably not return: ends the window in 40 s at most. */
void gt_reconnect_shorten(struct gt_reconnect *reconnect);
/* Undoes gt_reconnect_shorten: the network was the cause. */
void gt_reconnect_restore(struct gt_reconnect *reconnect);
/* Closes the window and resets the back-off: all is well again. */
void gt_reconnect_reset(struct gt_reconnect *reconnect);
/* Extends the window to at least one second from now: a data connection still uses the session. */
void gt_reconnect_extend(struct gt_reconnect *reconnect);
/* Returns the seconds left of the window; negative if it has ended or none is open. */
double gt_reconnect_time_left(const struct gt_reconnect *reconnect);
/* Returns the delay before the next attempt in seconds, and counts it. */
double gt_reconnect_delay(struct gt_reconnect *reconnect);
/* The same if an attempt is likely to succeed now: without back-off, but at most once a second, and
 * not before the delay after a restart notice. */
double gt_reconnect_retry_now(struct gt_reconnect *reconnect);
/* Returns true if the newest connection was dialed less than 2 s ago: a new one would not be
 * faster. */
bool gt_reconnect_is_recent(const struct gt_reconnect *reconnect);

/* Returns true if another attempt is useful after a connection that ended with @reason and @code.
 * @is_peer_away: the other side is not registered. */
bool gt_reconnect_is_worthwhile(enum gt_end_reason reason, enum gt_code code, bool is_peer_away);
/* The same before both sides were registered for the first time: a wrong key, or a relay that
 * refuses, is not temporary then. */
bool gt_reconnect_is_worthwhile_at_first(enum gt_end_reason reason, enum gt_code code);
