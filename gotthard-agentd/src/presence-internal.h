/* SPDX-License-Identifier: ISC */
/* What presence.c (connections) shares with presence-state.c (the STATE message). */
#pragma once

#include "presence.h"

struct presence_link {
    struct presence *presence;
    struct gt_mqtt *mqtt;                    /* owned */
    struct credentials *credentials;         /* owned reference */
    struct request_handler *request_handler; /* keeps; for its topics and will */
    struct gt_mqtt_url broker;
    uint32_t number;      /* of the last attempt, for the seq of STATE */
    int64_t will_shift_s; /* as published_shift_s, of the last will */

    ev_timer resubscribe; /* after a refusal */
    bool is_awaiting_suback, is_subscribed;
    bool is_begun;             /* "online" was published for this subscription */
    int access_id;             /* of the SUBSCRIBE for parts of the access list; 0: none */
    size_t n_parts, n_awaited; /* topics of parts: subscribed, and to be subscribed */
    ev_timer parts_again;      /* once for each connection */
    struct gt_log_rate access_refused;
    unsigned n_refused_subscriptions;      /* in a row */
    bool is_without_retained;              /* the warning is logged */
    const struct gt_mqtt_outcome *outcome; /* of the last end; its hint is logged */
};

/* Returns the wait after @n earlier refusals in a row. */
double presence_refusal_wait_s(unsigned n);

/* Returns the wall clock minus the one that never jumps: a device often learns the time after it is
 * online. */
int64_t presence_clock_shift_s(void);
const char *presence_device(const struct presence *presence);

/* In presence-access.c, without effect unless the policy is list: */
void presence_access_init(struct presence_link *link);
/* The connection is lost, or about to be freed. */
void presence_access_reset(struct presence_link *link);
/* Subscribes to part 0, now and once more after some seconds. */
void presence_access_begin(struct presence_link *link);
/* Returns true if a SUBACK was the answer to that. */
bool presence_access_on_suback(struct presence_link *link, int id, unsigned n_refused,
                               const char *why);

void presence_state_init(struct presence *presence);
/* The connection is lost, or another one took its place. */
void presence_state_reset(struct presence *presence);
/* The subscription of a new connection is granted: publishes "online". */
void presence_state_begin(struct presence *presence);
/* Publishes one STATE. Returns 0, -ENOTCONN, -EOPNOTSUPP or GT_MESSAGE_E_BAD if the broker does not
 * accept such a message, or another error, which is logged. */
int presence_publish_state(struct presence *presence, enum gt_state_kind kind, int *ret_id);
/* The broker refuses @what for the reason @why: the device cannot be online. */
void presence_refuse(struct presence *presence, const char *what, const char *why);
/* The broker has acknowledged publication @id of the connection in use. */
void presence_state_acknowledged(struct presence *presence, int id);
/* The broker has refused the last "online". */
void presence_state_refused(struct presence *presence, const char *why);
