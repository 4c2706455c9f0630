/* SPDX-License-Identifier: ISC */
/*
 * The broker as a client sees it: whether it accepts the connection, and what this side may publish
 * and receive. A SUBACK proves little, because brokers such as mosquitto grant any subscription and
 * deliver nothing; so this side also sends a message to itself, where it may. That message is
 * larger than two packets, and proves that large packets arrive. Nothing is retained.
 */
#pragma once

#include <ev.h>

#include "gotthard/mqtt/mqtt.h"

#define GT_BROKER_CHECK_FILTERS 2
#define GT_BROKER_TEXT          400 /* bytes, with the NUL */

struct gt_broker_check {
    struct gt_mqtt_settings mqtt;                 /* is_once, and a client id of its own */
    const char *publish_topic;                    /* to which one byte is published; NULL: none */
    const char *filters[GT_BROKER_CHECK_FILTERS]; /* to subscribe to; NULL: fewer */
    /* A message through ->filters; may be NULL. */
    void (*on_message)(void *userdata, const char *topic, struct gt_span payload);
    void *userdata;
    const char *echo_topic; /* this side subscribes and publishes to it; NULL: none */
};

enum gt_broker_right {
    GT_BROKER_UNKNOWN,
    GT_BROKER_GRANTED,
    GT_BROKER_REFUSED,
};

struct gt_broker_facts {
    bool is_up;
    double took_s;            /* until it was up */
    char why[GT_BROKER_TEXT]; /* the reason of the end: not up, or the connection was lost later */
    bool is_lost;             /* after it was up */
    const struct gt_mqtt_outcome *outcome; /* of the end, with its hint; NULL: no answer in time */
    enum gt_broker_right publish, subscribe;
    char publish_why[GT_BROKER_TEXT], subscribe_why[GT_BROKER_TEXT];
    unsigned n_messages; /* received through ->filters */
    enum {
        GT_BROKER_ECHO_UNKNOWN, /* there was none, or this side may not publish to itself */
        GT_BROKER_ECHO_RECEIVED,
        GT_BROKER_ECHO_WITHHELD, /* the broker has acknowledged it, and does not deliver it */
        GT_BROKER_ECHO_LOST,     /* the broker has not acknowledged it: large packets are lost */
    } echo;
};

/* Takes at most 40 s. */
void gt_broker_check(struct ev_loop *loop, const struct gt_broker_check *check,
                     struct gt_broker_facts *ret);
