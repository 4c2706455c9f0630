/* SPDX-License-Identifier: ISC */
/*
 * One connection to an MQTT broker, from the attempt to its end, in a thread of its own. For mqtt.c
 * only. The thread puts events into a locked queue and wakes up the loop, which takes them. A
 * connection never reconnects: each attempt is a new struct gt_mqtt_connection.
 */
#pragma once

#include "gotthard/mqtt/mqtt-queue.h"
#include "gotthard/mqtt/mqtt.h"
#include "gotthard/net/sock.h"

struct gt_mqtt_connection;

/* MQTT 5 reason codes (MQTT 5, section 2.4), and one of our own. */
enum {
    GT_MQTT_REASON_NO_ROUTE = -1,         /* this machine has lost the route to the broker */
    GT_MQTT_REASON_NO_SUBSCRIBERS = 0x10, /* no matching subscribers */
    GT_MQTT_REASON_FAILURE = 0x80,        /* from here on all codes are failures */
    GT_MQTT_REASON_QOS = 0x9b,            /* the broker does not support our QoS */
};

struct gt_mqtt_connection_will {
    const char *topic;
    struct gt_span payload;
    bool is_retained;
};

/*
 * Starts a connection attempt to the first of @addrs that accepts: of the broker, or of the proxy.
 * Borrows @loop and @wakeup until
 * gt_mqtt_connection_free(); @wakeup is signalled whenever there are events. @will: may be NULL;
 * copied, as is the rest. @probed: of the attempt before. Returns 0, -ENOMEM, -EAGAIN if too many
 * threads are blocked, or -EINVAL if libmosquitto rejects a setting.
 */
int gt_mqtt_connection_new(const struct gt_mqtt_settings *settings, const struct gt_addr *addrs,
                           size_t n_addrs, bool is_v5, const struct gt_mqtt_connection_will *will,
                           const struct gt_mqtt_probed *probed, struct ev_loop *loop,
                           ev_async *wakeup, struct gt_mqtt_connection **ret) GT_MUST_CHECK;
/* Ends the connection. Disconnects properly (see gt_mqtt_free) if the thread can do that within
 * @timeout_ms; 0: immediately. A thread that is still blocked then is abandoned, and frees
 * everything when it returns. Takes NULL. */
struct gt_mqtt_connection *gt_mqtt_connection_free(struct gt_mqtt_connection *connection,
                                                   unsigned timeout_ms);

/* Returns true if TCP is connected, or the attempt has ended. */
bool gt_mqtt_connection_has_peer(struct gt_mqtt_connection *connection);

/* The network has changed: ends the connection with reason NO_ROUTE if its route is gone. */
void gt_mqtt_connection_check(struct gt_mqtt_connection *connection);

/* Returns the oldest event, which the caller frees, or NULL. Takes NULL. */
struct gt_mqtt_event *gt_mqtt_connection_next_event(struct gt_mqtt_connection *connection);

/* Publishes with QoS 1. @expiry_s: Message Expiry Interval (MQTT 5, section 3.3.2.3.3); 0: none.
 * Returns 0, -ENOTCONN, -EOPNOTSUPP if the broker does not accept this size or QoS,
 * -EINVAL or -ENOMEM. */
int gt_mqtt_connection_publish(struct gt_mqtt_connection *connection, const char *topic,
                               struct gt_span payload, bool is_retained, unsigned expiry_s,
                               int *ret_id) GT_MUST_CHECK;
/* Subscribes to @n filters with one packet. Returns as gt_mqtt_connection_publish(). Without memory
 * the connection ends. */
int gt_mqtt_connection_subscribe(struct gt_mqtt_connection *connection, const char *const *filters,
                                 size_t n, unsigned qos, int *ret_id) GT_MUST_CHECK;
