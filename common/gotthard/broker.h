/* SPDX-License-Identifier: ISC */
/*
 * One connection to an MQTT broker, from the first attempt to its end, in a thread of its own. It
 * is mqtt.c's, and the only file that knows libmosquitto. What the thread hears becomes reports in
 * a locked queue; the loop is woken and takes them. A connection never comes back: the next one is
 * a new struct gt_broker.
 */
#pragma once

#include "gotthard/mqtt.h"
#include "gotthard/reports.h"

struct gt_broker;

/* MQTT 5 reason codes that somebody acts on (section 2.4 of the standard), and one of our own. */
enum {
    GT_BROKER_NO_WAY = -1,       /* this machine's network has gone from under it */
    GT_BROKER_UNHEARD = 0x10,    /* no matching subscribers */
    GT_BROKER_FAILED = 0x80,     /* this and all above are failures */
    GT_BROKER_TAKEN_OVER = 0x8e, /* another client came with our client id */
};

struct gt_broker_will {
    const char *topic;
    struct gt_span payload;
};

/*
 * Begins to connect. Borrows @loop and @heard, which is sent to whenever there are reports, until
 * free; @will may be NULL. Besides -ENOMEM and -EAGAIN (no thread to be had), -EINVAL: a setting
 * that libmosquitto refuses, a certificate or key file that cannot be read.
 */
int gt_broker_new(const struct gt_mqtt_settings *settings, bool is_v5,
                  const struct gt_broker_will *will, struct ev_loop *loop, ev_async *heard,
                  struct gt_broker **ret) GT_MUST_CHECK;
/* Ends the connection: in order (see gt_mqtt_free), if the thread can do that within @patience_ms;
 * else the thread is left behind and ends when it can. Takes NULL. */
struct gt_broker *gt_broker_free(struct gt_broker *broker, unsigned patience_ms);

/* The network has changed: a connection whose way is gone ends, with the reason NO_WAY. */
void gt_broker_check(struct gt_broker *broker);

/* The oldest report, to be freed by the caller, or NULL. Takes NULL. */
struct gt_broker_report *gt_broker_take(struct gt_broker *broker);

/* -ENOTCONN, -EOPNOTSUPP (this broker takes nothing so large, or of this kind), -EINVAL, -ENOMEM.
 * QoS 1. */
int gt_broker_publish(struct gt_broker *broker, const char *topic, struct gt_span payload,
                      bool is_retained, unsigned expiry_s, int *ret_id) GT_MUST_CHECK;
int gt_broker_subscribe(struct gt_broker *broker, const char *filter) GT_MUST_CHECK;
