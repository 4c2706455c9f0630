/* SPDX-License-Identifier: ISC */
/*
 * The device's presence at its MQTT broker: one connection that reconnects indefinitely, and the
 * retained STATE message ("online" or "offline"), with an "offline" last will. Received messages
 * are passed to the owner.
 *
 * After a change of broker, certificates or names the connection in use stays until one with the
 * new settings is up: a wrong authority or password must not make the device unreachable. Both have
 * the same client id, so the broker closes the old one when it accepts the new one, not before.
 */
#pragma once

#include "gotthard/base/log.h"
#include "gotthard/mqtt/mqtt.h"
#include "gotthard/signaling/topic.h"
#include "request-handler.h"
#include "setup.h"

struct presence_events {
    /* @payload: borrowed. */
    void (*on_message)(void *userdata, const char *topic, bool is_retained, struct gt_span payload);
    /* The connection to the broker was established or lost, or its view of STATE has changed. */
    void (*on_change)(void *userdata);
    /* The connection of presence_replace() is up and has taken the place of the old one: its
     * request handler and credentials are in use. */
    void (*on_replaced)(void *userdata);
    /* After presence_publish_offline: "offline" has reached the broker, or cannot. */
    void (*on_offline)(void *userdata);
    /* Returns true if an operator waits for a session that is not up yet. */
    bool (*is_awaited)(void *userdata);
};

/* What the broker of the connection in use has done with STATE. */
enum presence_standing {
    PRESENCE_PENDING, /* not acknowledged yet, or not connected */
    PRESENCE_ONLINE,
    PRESENCE_REFUSED, /* the device is shown as offline; this side tries again with a back-off */
};

struct presence_reply { /* a publication */
    int id;
    char topic[GT_TOPIC_MAX + 1];
};

struct presence_link; /* one connection with its credentials and request handler */

struct presence {
    struct ev_loop *loop;
    const struct presence_events *events;
    void *userdata;
    const struct setup *setup;         /* keeps */
    struct presence_link *link;        /* owned; in use; NULL: closed */
    struct presence_link *next;        /* owned; to take its place when it is up, or NULL */
    uint64_t online_ms;                /* since when the device is online (gt_clock_ms) */
    bool is_online_kept;               /* a replacement must not change online_ms */
    int64_t published_shift_s;         /* wall clock minus gt_clock() in the last STATE */
    bool is_going_offline, is_offline; /* "offline" is published; the broker has it */
    int offline_id;                    /* publish id of the "offline" STATE */
    ev_timer state_due;                /* delays STATE, so that several changes cause one message */
    enum presence_standing standing;
    char refusal[160];                /* REFUSED: what, and why */
    unsigned n_refusals;              /* in a row */
    unsigned n_silences;              /* missing acknowledgements in a row */
    int state_id;                     /* publish id of "online"; 0: acknowledged */
    double published_at, refresh_at;  /* the last and the next regular STATE, by gt_clock() */
    uint32_t n_attempts;              /* to connect */
    struct presence_reply replies[8]; /* the last ones; a ring */
    unsigned n_replies;
    struct gt_log_rate refused, unsent; /* replies */
};

void presence_init(struct presence *presence, struct ev_loop *loop,
                   const struct presence_events *events, void *userdata);
/* Connects to the broker of @setup and uses the topics of @request_handler. Negative: as
 * gt_mqtt_new. */
int presence_open(struct presence *presence, const struct setup *setup,
                  struct request_handler *request_handler) GT_MUST_CHECK;
/* Replaces the setup after a reload. The connection stays. */
void presence_set(struct presence *presence, const struct setup *setup);
/* Replaces the request handler of the connection in use by one with the same topics. */
void presence_set_request_handler(struct presence *presence,
                                  struct request_handler *request_handler);
/* Has the broker send part 0 of the access list again, if the setup has policy list and there is a
 * connection. Each new connection does so by itself. */
void presence_request_access(struct presence *presence);
/* Subscribes to the parts of a list that has @n_parts, as far as they are not yet. */
void presence_await_access(struct presence *presence, size_t n_parts);
/* Connects by the setup, beside the connection in use; on_replaced follows when it is up. Replaces
 * an earlier replacement. Negative: as gt_mqtt_new. */
int presence_replace(struct presence *presence,
                     struct request_handler *request_handler) GT_MUST_CHECK;
/* Ends a replacement that is not up yet. */
void presence_cancel_replacement(struct presence *presence);
/* Publishes "offline" if it is connected, and disconnects. May be opened again. */
void presence_close(struct presence *presence);

/* Returns the credentials of the connection in use, or those of the setup. */
const struct credentials *presence_credentials(const struct presence *presence);
/* Returns the broker of the connection in use, or that of the setup. */
const struct gt_mqtt_url *presence_broker(const struct presence *presence);
/* Returns true while the broker is connected. */
bool presence_is_up(const struct presence *presence);
/* The content of STATE has changed: publishes it within 0.2 s. */
void presence_changed(struct presence *presence);
/* Publishes STATE again when it is due: regularly, if the broker has not acknowledged it, and if
 * the wall clock has jumped since the last one, because STATE contains a time of that clock.
 * Returns NULL, or the reason why the connection should be replaced: the time in its last will is
 * wrong by a minute or more, or the broker acknowledges nothing, so that the library may hold
 * messages back. Call it about every 30 s. */
const char *presence_tick(struct presence *presence);
/* Publishes a reply to an operator. Failures are logged. */
void presence_publish_reply(struct presence *presence, const char *topic, struct gt_span payload);
/* Publishes "offline". on_offline follows, possibly inside this call. */
void presence_publish_offline(struct presence *presence);
