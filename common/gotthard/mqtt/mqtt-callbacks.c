/* SPDX-License-Identifier: ISC */
/*
 * The callbacks of libmosquitto. They run in the connection's thread and turn each call into an
 * event for the loop. They wait only for room in the queue, and must not call the library, which
 * holds the lock of its callbacks. They must not trust messages: any client of the broker may have
 * sent them.
 */
#include <mosquitto.h>
#include <mqtt_protocol.h>
#include <stdio.h>
#include <string.h>

#include "gotthard/base/log.h"
#include "gotthard/mqtt/mqtt-thread.h"
#include "gotthard/signaling/topic.h"

static struct gt_mqtt_limits read_limits(const mosquitto_property *properties)
{
    struct gt_mqtt_limits limits = {.max_packet = UINT32_MAX};
    uint8_t has_retained = true;

    (void)mosquitto_property_read_int32(properties, MQTT_PROP_MAXIMUM_PACKET_SIZE,
                                        &limits.max_packet, false);
    (void)mosquitto_property_read_byte(properties, MQTT_PROP_RETAIN_AVAILABLE, &has_retained,
                                       false);
    limits.has_retained = has_retained;
    return limits;
}

/* Copies a text of the CONNACK, truncated. */
static void read_text(const mosquitto_property *properties, int id, char *ret, size_t cap)
{
    char *text = NULL;

    if (mosquitto_property_read_string(properties, id, &text, false))
        snprintf(ret, cap, "%s", text);
    free(text);
}

static void connection_on_connack(struct mosquitto *mosquitto, void *userdata, int reason,
                                  int flags, const mosquitto_property *properties)
{
    struct gt_mqtt_connection *connection = userdata;
    struct gt_mqtt_error *how = &connection->how;
    uint16_t keepalive_s;
    uint8_t max_qos = 1;

    if (how->was_up) /* only the first CONNACK counts */
        return;
    (void)mosquitto_property_read_byte(properties, MQTT_PROP_MAXIMUM_QOS, &max_qos, false);
    how->reason = reason == 0 && max_qos < 1 ? GT_MQTT_REASON_QOS : reason;
    how->was_up = how->reason == 0;
    connection->limits = read_limits(properties);
    read_text(properties, MQTT_PROP_SERVER_REFERENCE, how->server, sizeof(how->server));
    read_text(properties, MQTT_PROP_REASON_STRING, how->remark, sizeof(how->remark));
    if (mosquitto_property_read_int16(properties, MQTT_PROP_SERVER_KEEP_ALIVE, &keepalive_s, false))
        connection->keepalive_s = keepalive_s; /* the library follows it by itself */
}

static void connection_on_disconnect(struct mosquitto *mosquitto, void *userdata, int reason,
                                     const mosquitto_property *properties)
{
    struct gt_mqtt_connection *connection = userdata;

    if (reason >= GT_MQTT_REASON_FAILURE) /* smaller values are the library's own codes */
        connection->how.reason = reason;
}

static void connection_on_suback(struct mosquitto *mosquitto, void *userdata, int id, int n_granted,
                                 const int *granted, const mosquitto_property *properties)
{
    struct gt_mqtt_connection *connection = userdata;
    int first = n_granted < 1 ? GT_MQTT_REASON_FAILURE : 0;
    unsigned n_refused = n_granted < 1;

    for (int i = 0; i < n_granted; i++) {
        if (granted[i] < GT_MQTT_REASON_FAILURE)
            continue;
        first = n_refused++ ? first : granted[i];
    }
    struct gt_mqtt_event *event =
        gt_mqtt_event_new(GT_MQTT_EVENT_SUBSCRIBED, mosquitto_reason_string(first), gt_span("", 0));
    if (event) {
        event->id = id;
        event->reason = first;
        event->n_refused = n_refused;
    }
    gt_mqtt_connection_report(connection, event);
}

static void connection_on_message(struct mosquitto *mosquitto, void *userdata,
                                  const struct mosquitto_message *message,
                                  const mosquitto_property *properties)
{
    struct gt_mqtt_connection *connection = userdata;
    size_t n = (size_t)message->payloadlen;

    if (n > GT_MESSAGE_MAX || strlen(message->topic) > GT_TOPIC_MAX) {
        gt_debug("mqtt dropped=%zu reason=size", n);
        return;
    }
    struct gt_mqtt_event *event =
        gt_mqtt_event_new(GT_MQTT_EVENT_MESSAGE, message->topic, gt_span(message->payload, n));
    if (event)
        event->is_retained = message->retain;
    gt_mqtt_connection_report(connection, event);
}

static void connection_on_puback(struct mosquitto *mosquitto, void *userdata, int id, int reason,
                                 const mosquitto_property *properties)
{
    struct gt_mqtt_connection *connection = userdata;
    struct gt_mqtt_event *event =
        gt_mqtt_event_new(GT_MQTT_EVENT_PUBLISHED, mosquitto_reason_string(reason), gt_span("", 0));

    if (event) {
        event->id = id;
        event->reason = reason;
    }
    gt_mqtt_connection_count_unacknowledged(connection, -1);
    gt_mqtt_connection_report(connection, event);
}

/* Called in either thread. Details of a failed TLS handshake appear only in the log. */
static void connection_on_log(struct mosquitto *mosquitto, void *userdata, int level,
                              const char *text)
{
    struct gt_mqtt_connection *connection = userdata;

    gt_debug("mqtt: %s", text);
    if (level != MOSQ_LOG_ERR && level != MOSQ_LOG_WARNING)
        return;
    pthread_mutex_lock(&connection->lock);
    snprintf(connection->how.last_error, sizeof(connection->how.last_error), "%s", text);
    pthread_mutex_unlock(&connection->lock);
}

void gt_mqtt_connection_set_callbacks(struct mosquitto *mosquitto)
{
    mosquitto_connect_v5_callback_set(mosquitto, connection_on_connack);
    mosquitto_disconnect_v5_callback_set(mosquitto, connection_on_disconnect);
    mosquitto_subscribe_v5_callback_set(mosquitto, connection_on_suback);
    mosquitto_message_v5_callback_set(mosquitto, connection_on_message);
    mosquitto_publish_v5_callback_set(mosquitto, connection_on_puback);
    mosquitto_log_callback_set(mosquitto, connection_on_log);
}
