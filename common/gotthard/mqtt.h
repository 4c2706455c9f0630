/* SPDX-License-Identifier: ISC */
/*
 * A connection to an MQTT broker that comes back for ever: attempts, back-off and what is told to
 * the caller. Each attempt is a struct gt_broker (broker.h), a thread of its own, because
 * libmosquitto blocks in DNS and spins in corners when driven from outside (see HACKING.md). Every
 * callback below runs in the caller's loop. MQTT 5, falling back to 3.1.1 when the broker refuses
 * 5; clean start; back-off 1 s to 60 s with jitter (5 s to 5 min while another client takes our
 * client id); 20 s for CONNACK. When this machine's network has changed, a wait is cut short, and a
 * connection whose address or route is gone is given up.
 */
#pragma once

#include <ev.h>

#include "gotthard/message.h"

struct gt_mqtt;

struct gt_mqtt_settings { /* all copied */
    const char *host;
    uint16_t port;
    bool is_tls;
    const char *ca_file, *cert_file, *key_file; /* TLS; cert and key may be NULL */
    const char *alpn;                           /* or NULL */
    const char *client_id;
    const char *username, *password; /* or NULL */
    unsigned keepalive_s;            /* >= 5 */
    unsigned connack_s;              /* from the attempt's beginning, and for a SUBACK; 0: 20 */
    bool is_once; /* a command, not a service: the first failed attempt is final (on_down, no retry)
                   */
};

struct gt_mqtt_events {
    /* Connected. Subscribe and publish from here, each time. */
    void (*on_up)(void *userdata);
    /* An attempt failed or the connection was lost; @why for a log line. The next attempt is in
     * @retry_ms (0: none). */
    void (*on_down)(void *userdata, const char *why, unsigned retry_ms);
    /* All subscriptions asked for so far in this connection are granted. */
    void (*on_subscribed)(void *userdata);
    /* At most GT_MESSAGE_MAX bytes: larger ones are dropped in the thread. */
    void (*on_message)(void *userdata, const char *topic, bool is_retained, struct gt_span payload);
    /* PUBACK of gt_mqtt_publish's id. @is_unheard: MQTT 5 reason 0x10, no matching subscribers. May
     * be NULL. */
    void (*on_published)(void *userdata, int id, bool is_unheard);
    /* The will for the next attempt: payload into @ret (GT_MESSAGE_MAX), topic into @ret_topic
     * (GT_TOPIC_MAX + 1). Called in the loop before each attempt. NULL callback: no will. Returns
     * false for none. */
    bool (*make_will)(void *userdata, char *ret_topic, uint8_t *ret, size_t *ret_n);
    /* The broker refused to take that message (MQTT 5 only); @why for people. May be NULL. */
    void (*on_refused)(void *userdata, int id, const char *why);
};

int gt_mqtt_new(struct ev_loop *loop, const struct gt_mqtt_settings *settings,
                const struct gt_mqtt_events *events, void *userdata,
                struct gt_mqtt **ret) GT_MUST_CHECK;
/*
 * Disconnects in order, once what was published is acknowledged, and with a will waits until the
 * broker has closed: it answered, so the will is not published. That long it blocks, at most 1 s
 * (3 s with a will). A thread stuck in the resolver is left behind, never joined. May be called
 * from a callback. Takes NULL.
 */
struct gt_mqtt *gt_mqtt_free(struct gt_mqtt *mqtt);

bool gt_mqtt_is_up(const struct gt_mqtt *mqtt);
/* QoS 1. 0, -ENOTCONN (dropped: say it again from on_up), or -EOPNOTSUPP (this broker takes nothing
 * so large, or of this kind). @expiry_s 0: none. *ret_id for
 * on_published. */
int gt_mqtt_publish(struct gt_mqtt *mqtt, const char *topic, struct gt_span payload,
                    bool is_retained, unsigned expiry_s, int *ret_id) GT_MUST_CHECK;
int gt_mqtt_subscribe(struct gt_mqtt *mqtt, const char *filter) GT_MUST_CHECK;
