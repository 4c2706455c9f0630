/* SPDX-License-Identifier: ISC */
/*
 * A permanent connection to an MQTT broker: attempts, back-off and events for the caller. Each
 * attempt is a struct gt_mqtt_connection with a thread of its own, because libmosquitto blocks in
 * TLS and can spin when an external loop drives it (HACKING.md). Each attempt resolves the host's
 * name again and races its addresses (RFC 8305). All callbacks run in the caller's loop.
 *
 * MQTT 5, or 3.1.1 if the broker rejects 5 or does not answer it within 5 s; clean start; QoS 1; 20
 * s for CONNACK, up to 60 s at a busy broker. Waits after failures: mqtt-retry.h. Outcomes:
 * mqtt-error.h. After a change of this machine's network a wait that the network may have caused is
 * shortened, and a connection whose address or route is gone is closed.
 */
#pragma once

#include <ev.h>

#include "gotthard/base/proxy.h"
#include "gotthard/signaling/message.h"
#include "gotthard/signaling/topic.h"

#define GT_MQTT_FILTERS_MAX 8  /* in one SUBSCRIBE: AWS IoT takes no more */
#define GT_MQTT_OVERHEAD    15 /* of a PUBLISH: headers, lengths and properties */

struct gt_mqtt;
struct gt_mqtt_outcome;

struct ssl_ctx_st; /* OpenSSL's SSL_CTX */

enum gt_mqtt_version { GT_MQTT_VERSION_ANY, GT_MQTT_VERSION_5, GT_MQTT_VERSION_3 /* 3.1.1 */ };
/* "5", "3.1.1"; any other word: ANY. */
enum gt_mqtt_version gt_mqtt_version_of(const char *word);

struct gt_mqtt_settings { /* all copied */
    const char *host;
    uint16_t port;
    const struct gt_proxy *proxy; /* on the way to it, which resolves ->host; NULL: none */
    struct ssl_ctx_st *tls;       /* of tls/certificate-context.h for @host; NULL: without TLS */
    const char *client_id;
    const char *username, *password; /* or NULL */
    unsigned keepalive_s;            /* >= 5 */
    unsigned connack_s;              /* from the start of an attempt, and for a SUBACK; 0: 20 */
    unsigned receive_maximum; /* MQTT 5: unacknowledged QoS 1 messages of the broker; 0: 20 */
    size_t backlog; /* bytes of received messages that wait for the loop; 0: 1 MiB. Some brokers
                       drop messages for a client that does not read at once */
    enum gt_mqtt_version version;
    unsigned reconnect_spread_ms; /* of the first attempt after the broker was lost; 0: none */
    bool is_once; /* for a command: a failure before it was up is final (on_down, no retry) */
};

struct gt_mqtt_events {
    /* Connected. Subscriptions must be made again each time. */
    void (*on_up)(void *userdata);
    /* An attempt failed or the connection was lost. @why: for a log line, of any length. @retry_ms:
     * time to the next attempt; 0: none. */
    void (*on_down)(void *userdata, const char *why, unsigned retry_ms);
    /* All subscriptions of this connection so far are answered. */
    void (*on_subscribed)(void *userdata);
    /* A message of at most GT_MESSAGE_MAX bytes; larger ones are dropped in the thread. None is
     * dropped for another reason while the connection lasts: if the loop is slower than the broker,
     * the connection's thread stops reading. */
    void (*on_message)(void *userdata, const char *topic, bool is_retained, struct gt_span payload);
    /* PUBACK of gt_mqtt_publish()'s id. @has_no_subscribers: reason 0x10 (MQTT 5, section 3.4.2.1).
     * May be NULL. */
    void (*on_published)(void *userdata, int id, bool has_no_subscribers);
    /* Writes the will for the next attempt. It is retained, unless the broker keeps no retained
     * messages. Payload into @ret (GT_MESSAGE_MAX), topic into @ret_topic (GT_TOPIC_MAX + 1).
     * Called before each attempt. Returns false without memory; the attempt fails then. May be
     * NULL: no will. */
    bool (*make_will)(void *userdata, char *ret_topic, uint8_t *ret, size_t *ret_n);
    /* The broker rejected the message (MQTT 5 only). @why: for people. May be NULL. */
    void (*on_refused)(void *userdata, int id, const char *why);
    /* SUBACK of gt_mqtt_subscribe_all()'s @id. All packets that the broker sent before it on this
     * connection have been reported before. @n_refused: rejected filters; @why: the reason of the
     * first in words. A broker can send an @id that was never requested. May be NULL: a rejected
     * filter ends the connection then. */
    void (*on_suback)(void *userdata, int id, unsigned n_refused, const char *why);
    /* Returns true if an operator waits for something that needs this connection: the next attempt
     * is not delayed by the spread. May be NULL: false. */
    bool (*is_awaited)(void *userdata);
};

/* Starts connecting. Borrows @loop; copies everything else. Returns 0 or -ENOMEM. */
int gt_mqtt_new(struct ev_loop *loop, const struct gt_mqtt_settings *settings,
                const struct gt_mqtt_events *events, void *userdata,
                struct gt_mqtt **ret) GT_MUST_CHECK;
/*
 * Waits until published messages are acknowledged and sends DISCONNECT. With a will it waits until
 * the broker has closed the connection, so that the will is not published. Blocks for at most 1 s,
 * with a will 3 s. A thread that is blocked in the resolver is abandoned, never joined. May be
 * called from a callback. Takes NULL.
 */
struct gt_mqtt *gt_mqtt_free(struct gt_mqtt *mqtt);

/* The same, blocking for at most @timeout_ms. 0: without DISCONNECT, so that the broker publishes
 * the will. */
struct gt_mqtt *gt_mqtt_free_within(struct gt_mqtt *mqtt, unsigned timeout_ms);

bool gt_mqtt_is_up(const struct gt_mqtt *mqtt);
/* Returns the row of the last end (mqtt-error.h), for on_down and later; NULL before the first. */
const struct gt_mqtt_outcome *gt_mqtt_last_outcome(const struct gt_mqtt *mqtt);
/* Publishes with QoS 1. @expiry_s: Message Expiry Interval, 0: none. *ret_id: for on_published.
 * A broker without retained messages gets an ordinary one. Returns 0, -ENOTCONN (the message is
 * dropped; publish again in on_up), -EAGAIN while the broker leaves 256
 * messages unacknowledged, -EOPNOTSUPP if it does not accept this size or QoS,
 * -EINVAL or -ENOMEM. */
int gt_mqtt_publish(struct gt_mqtt *mqtt, const char *topic, struct gt_span payload,
                    bool is_retained, unsigned expiry_s, int *ret_id) GT_MUST_CHECK;
/* Subscribes with QoS 1. Returns 0, -ENOTCONN, -EINVAL or -ENOMEM. Without memory the connection
 * ends (on_down). */
int gt_mqtt_subscribe(struct gt_mqtt *mqtt, const char *filter) GT_MUST_CHECK;
/* The same for @n filters, 1 to GT_MQTT_FILTERS_MAX, with one packet and @qos 0 or 1. *ret_id: for
 * on_suback. -EOPNOTSUPP if the packet is too large for the broker. */
int gt_mqtt_subscribe_all(struct gt_mqtt *mqtt, const char *const *filters, size_t n, unsigned qos,
                          int *ret_id) GT_MUST_CHECK;
/* The same for @n parts of the access list from part @first on, with QoS 1. -EINVAL also for a
 * topic that cannot be formed. */
int gt_mqtt_subscribe_parts(struct gt_mqtt *mqtt, const char *prefix, size_t first, size_t n,
                            int *ret_id) GT_MUST_CHECK;
/* The broker's limits, from its CONNACK: the largest packet, in bytes (payload, topic and
 * GT_MQTT_OVERHEAD), and whether it keeps retained messages. UINT32_MAX and true if it names
 * no limit, with version 3.1.1, and before the first connection. */
uint32_t gt_mqtt_max_packet(const struct gt_mqtt *mqtt);
bool gt_mqtt_has_retained(const struct gt_mqtt *mqtt);
