/* SPDX-License-Identifier: ISC */
/*
 * The private part of a permanent connection to a broker, for its two files only: mqtt-attempt.c
 * has the attempts and their ends, mqtt.c the events of a connection and the public functions.
 */
#pragma once

#include "gotthard/mqtt/mqtt-connection.h"
#include "gotthard/mqtt/mqtt-retry.h"
#include "gotthard/net/netwatch.h"
#include "gotthard/net/resolve.h"

enum mqtt_state {
    MQTT_WAITING, /* for the next attempt; the first is due at once */
    MQTT_TRYING,  /* resolving, then connecting, for at most limit_s */
    MQTT_UP,      /* the library's deadline is the keep-alive; connack_s while a SUBACK is
                     outstanding */
    MQTT_OVER,    /* is_once, and the attempt failed */
    MQTT_GONE,    /* freed inside a callback: only the memory remains */
};

struct gt_mqtt {
    struct ev_loop *loop;
    struct gt_mqtt_settings settings; /* the strings are owned */
    struct gt_mqtt_events events;
    void *userdata;

    enum mqtt_state state;
    bool is_in_callback; /* gt_mqtt_free() must leave the memory */
    bool is_v5, has_will;
    bool is_connected;            /* TRYING: CONNECT is on its way */
    bool is_version_timed;        /* the timer is for a broker that ignores MQTT 5 */
    bool has_answered_v5;         /* the broker, at any time */
    bool has_retained_will;       /* false: this attempt follows a CONNACK "retain not supported" */
    struct gt_mqtt_limits limits; /* of the last connection that was up */
    struct gt_resolve *resolve;   /* owned; TRYING */
    struct gt_addr addrs[GT_RESOLVE_MAX]; /* of the last result: the broker's, or the proxy's */
    size_t n_addrs;
    int resolve_err;                       /* EAI_x */
    struct gt_mqtt_connection *connection; /* TRYING, UP */
    ev_async wakeup;
    ev_timer timer; /* WAITING, TRYING */
    struct gt_netwatch netwatch;
    double up_since; /* by gt_clock() */
    double tried_at; /* start of the last attempt */
    struct gt_mqtt_retry retry;
    unsigned limit_s;                      /* of this attempt */
    unsigned n_ungranted;                  /* subscriptions without a SUBACK */
    const struct gt_mqtt_outcome *outcome; /* of the last end, as the next one */
    struct gt_mqtt_probed probed;
};

/* Restarts the timer. Negative: stops it. */
void gt_mqtt_set_timer(struct gt_mqtt *mqtt, double timeout_s);
void gt_mqtt_enter(struct gt_mqtt *mqtt, enum mqtt_state state, double timeout_s);
/* Runs @step, in whose callbacks @mqtt may be freed. */
void gt_mqtt_run(struct gt_mqtt *mqtt, void (*step)(struct gt_mqtt *));
/* Frees the memory. */
void gt_mqtt_destroy(struct gt_mqtt *mqtt);

/* The timer has expired: starts an attempt, or ends the attempt or the connection. */
void gt_mqtt_attempt_time_out(struct gt_mqtt *mqtt);
/* CONNECT is on its way. */
void gt_mqtt_attempt_connected(struct gt_mqtt *mqtt);
/* Ends the connection or the attempt. Begins another attempt at once if less of MQTT may help. */
void gt_mqtt_attempt_end(struct gt_mqtt *mqtt, enum gt_mqtt_effect effect, const char *why);
/* The same for an end that the library does not know. @end: was_up is set here. */
void gt_mqtt_attempt_fail(struct gt_mqtt *mqtt, struct gt_mqtt_error end);
