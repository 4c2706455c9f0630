/* SPDX-License-Identifier: ISC */
/*
 * How a tunnel comes to its link, and to another when that is lost: what each tells the relay (the
 * same, but for the generation and what is left of the lifetime), whether another is worth a try,
 * when (backoff.h), and for how long. It has no timer: its presence asks.
 */
#pragma once

#include "gotthard/backoff.h"
#include "gotthard/link.h"

struct gt_redial {
    char host[GT_HOST_MAX + 1], name[GT_NAME_MAX + 1];
    uint16_t port;
    enum gt_role role;
    uint8_t client_key[GT_KEY_SIZE], rid[GT_RID_SIZE];
    uint32_t generation;   /* of the newest link */
    uint16_t session_port; /* that the relay gave; 0: none yet */
    double lifetime_s;     /* 0: none of its own */
    double begun_at;       /* the lifetime; 0: not yet */
    double window;
    double give_up_at;      /* from _begin to _rest; else 0 */
    double patient_until;   /* what it would be without _hurry */
    double expected_until;  /* a loss before then was announced: */
    double spread, try_for; /* when to come back, and for how long at least to try */
    double next_at;         /* the moment that chance chose for it */
    double dialled_at;      /* the newest link */
    double hastened_at;     /* the last try out of turn, past or to come */
    struct gt_backoff backoff;
};

/* Copies what @link points to; its ttl_s is the whole lifetime. @window_ms 0: 120 s. */
void gt_redial_init(struct gt_redial *redial, const struct gt_link_settings *link,
                    unsigned window_ms);
void gt_redial_deinit(struct gt_redial *redial);

/* As gt_link_new, with a greater generation each time, and less patience after the first. */
int gt_redial_dial(struct gt_redial *redial, struct ev_loop *loop,
                   const struct gt_link_events *events, void *userdata,
                   struct gt_link **ret) GT_MUST_CHECK;
/* A link is registered, the relay gave @port: the next one asks for it again, and with the first
 * the lifetime begins. */
void gt_redial_registered(struct gt_redial *redial, uint16_t port);

/* The relay says that it will close this link: the first try after a loss that follows soon is made
 * at a moment of chance within @reconnect_in_ms, instead of the back-off's first step, and the
 * window is @try_for_ms at least. Whatever the numbers are, within reason. */
void gt_redial_expect(struct gt_redial *redial, uint32_t reconnect_in_ms, uint32_t try_for_ms);
/* What is left of the lifetime, a second at least; 0: it has none of its own. */
uint32_t gt_redial_ttl(const struct gt_redial *redial);

/* Something is missed: the window begins, unless it has. */
void gt_redial_begin(struct gt_redial *redial);
/* It will most likely not come back: at most 40 s from now; and it was the network after all. */
void gt_redial_hurry(struct gt_redial *redial);
void gt_redial_relax(struct gt_redial *redial);
/* All is well again. */
void gt_redial_rest(struct gt_redial *redial);
/* There is still something to come back for: one second more, at least. */
void gt_redial_extend(struct gt_redial *redial);
/* Seconds of the window. */
double gt_redial_left(const struct gt_redial *redial);
/* Seconds to the next try. */
double gt_redial_next(struct gt_redial *redial);
/* There is reason to believe that now it would work: the same, without patience, but not more than
 * a try a second, and not before the moment that a relay which restarts has been promised. */
double gt_redial_hasten(struct gt_redial *redial);
/* Is the newest link so young that its own tries to connect are as good as another? */
bool gt_redial_is_fresh(const struct gt_redial *redial);

/* Is a link that ended so worth another? */
bool gt_redial_is_worth(enum gt_down cause, enum gt_code code, bool is_peer_away);
