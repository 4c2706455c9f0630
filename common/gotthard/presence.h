/* SPDX-License-Identifier: ISC */
/*
 * Being there: this side's place in a session at the relay, over one link after another, and
 * whether the other side is in its own. What was lost is missed, and comes back by itself or is
 * given up: once both sides were there, a link that is lost is dialled again (redial.h) for up to
 * the window, and the other side is waited for as long.
 *
 * Its streams get their tickets and their link from here; how the tunnel that it is a part of comes
 * to its end is not decided here, but what the relay is told then is.
 */
#pragma once

#include <ev.h>

#include "gotthard/netwatch.h"
#include "gotthard/redial.h"
#include "gotthard/streams.h"

struct gt_presence_settings {
    struct gt_link_settings link; /* what it points to is copied; ttl_s is the whole lifetime */
    bool is_single_port;          /* data connections go to the link's port too */
    unsigned peer_timeout_ms;     /* how long the other side may take at first; 0: 30 s */
    unsigned resume_window_ms;    /* 0: 120 s */
};

struct gt_presence_events {
    /* Both sides are there. Once. */
    void (*on_up)(void *userdata, uint16_t port);
    /* After on_up: the other side went, or came back; @reason as the relay says. */
    void (*on_peer)(void *userdata, bool is_up, enum gt_code reason);
    /* After on_up: the link is lost (@why), or it is back and the other side is there too. */
    void (*on_link)(void *userdata, bool is_up, const char *why);
    /* Before each of these: there is a way to the other side, or none. May say the same again. */
    void (*on_way)(void *userdata, bool is_there);
    /* It is given up, or the session is over; as after gt_presence_end. */
    void (*on_over)(void *userdata, enum gt_down cause, enum gt_code code, const char *why);
    /* After gt_presence_leave, and the last one; @is_told: no goodbye is due any more. */
    void (*on_left)(void *userdata, bool is_told);
};

enum gt_presence_state {
    GT_PRESENCE_REGISTERING, /* the link is on its way up */
    GT_PRESENCE_WAITING,     /* registered; the other side has not come yet */
    GT_PRESENCE_TOGETHER,
    GT_PRESENCE_AWAY,       /* the other side was here and is not now */
    GT_PRESENCE_LOST,       /* the link is; the next try is due */
    GT_PRESENCE_REDIALLING, /* another link is on its way up */
    GT_PRESENCE_ENDED,      /* the link is there for last words, if it is */
    GT_PRESENCE_LEAVING,    /* a goodbye is on its way */
    GT_PRESENCE_LEFT,
};

struct gt_presence { /* a part of its whole */
    struct ev_loop *loop;
    enum gt_presence_state state;
    struct gt_presence_events events;
    void *userdata;
    struct gt_streams *streams; /* keeps */
    bool is_single_port;
    ev_tstamp peer_timeout;
    struct gt_redial redial;             /* runs out from leaving TOGETHER until it is again */
    bool is_link_missed, is_peer_missed; /* the caller was told that it went */
    bool is_goodbye_due; /* it was ended while there was no link: the next one is to say so */
    struct gt_link *link;
    struct gt_addr relay; /* where data connections go */
    struct gt_netwatch netwatch;
    ev_timer deadline, lifetime;
    char why[160]; /* the link was lost */
};

/* Nothing is dialled yet: @streams need not be there before gt_presence_begin. */
void gt_presence_init(struct gt_presence *presence, struct ev_loop *loop,
                      const struct gt_presence_settings *settings, struct gt_streams *streams,
                      const struct gt_presence_events *events, void *userdata);
/* After its streams, which use the link. */
void gt_presence_deinit(struct gt_presence *presence);

/* As gt_link_new. */
int gt_presence_begin(struct gt_presence *presence) GT_MUST_CHECK;
/* By our own will: nothing is missed any more, and only on_left will follow. */
void gt_presence_end(struct gt_presence *presence);
/* After the end: BYE (@code) goes to the relay, over one more link if it was ended while there was
 * none. on_left follows within 1.1 s, perhaps from inside. */
void gt_presence_leave(struct gt_presence *presence, enum gt_code code);

/* "device" or "operator": the other side. */
const char *gt_presence_peer(const struct gt_presence *presence);
