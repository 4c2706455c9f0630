/* SPDX-License-Identifier: ISC */
/*
 * What libmosquitto calls, in its thread: each makes a report of what it is told. The library's
 * lock may be held, and messages come from anybody.
 */
#include <mosquitto.h>
#include <mqtt_protocol.h>
#include <stdio.h>
#include <string.h>

#include "gotthard/brokerthread.h"
#include "gotthard/log.h"

static void broker_on_connack(struct mosquitto *mosquitto, void *userdata, int reason, int flags,
                              const mosquitto_property *properties)
{
    struct gt_broker *broker = userdata;
    uint16_t keepalive_s;
    if (broker->how.was_up) /* said before */
        return;
    broker->how.reason = reason;
    broker->how.was_up = reason == 0;
    if (mosquitto_property_read_int16(properties, MQTT_PROP_SERVER_KEEP_ALIVE, &keepalive_s, false))
        broker->keepalive_s = keepalive_s; /* the library follows it, too */
}

static void broker_on_disconnect(struct mosquitto *mosquitto, void *userdata, int reason,
                                 const mosquitto_property *properties)
{
    struct gt_broker *broker = userdata;
    if (reason >= GT_BROKER_FAILED) /* below: the library's own codes */
        broker->how.reason = reason;
}

static void broker_on_suback(struct mosquitto *mosquitto, void *userdata, int id, int n_granted,
                             const int *granted, const mosquitto_property *properties)
{
    struct gt_broker *broker = userdata;
    struct gt_broker_report *report = gt_report_new(GT_BROKER_GRANTED, "", gt_span("", 0));
    if (report && (n_granted < 1 || granted[0] >= GT_BROKER_FAILED))
        report->reason = GT_BROKER_FAILED;
    gt_reports_put(&broker->reports, report);
}

static void broker_on_message(struct mosquitto *mosquitto, void *userdata,
                              const struct mosquitto_message *message,
                              const mosquitto_property *properties)
{
    struct gt_broker *broker = userdata;
    size_t n = (size_t)message->payloadlen;
    if (n > GT_MESSAGE_MAX || strlen(message->topic) > GT_TOPIC_MAX) {
        gt_debug("mqtt dropped=%zu reason=size", n);
        return;
    }
    struct gt_broker_report *report =
        gt_report_new(GT_BROKER_MESSAGE, message->topic, gt_span(message->payload, n));
    if (report)
        report->is_retained = message->retain;
    if (!gt_reports_put(&broker->reports, report))
        gt_debug("mqtt dropped=%zu reason=backlog", n);
}

static void broker_on_puback(struct mosquitto *mosquitto, void *userdata, int id, int reason,
                             const mosquitto_property *properties)
{
    struct gt_broker *broker = userdata;
    struct gt_broker_report *report =
        gt_report_new(GT_BROKER_PUBLISHED, mosquitto_reason_string(reason), gt_span("", 0));
    if (report) {
        report->id = id;
        report->reason = reason;
    }
    gt_broker_count(broker, -1);
    gt_reports_put(&broker->reports, report);
}

/* Called in either thread. The details of a failed handshake come this way and no other. */
static void broker_on_log(struct mosquitto *mosquitto, void *userdata, int level, const char *text)
{
    struct gt_broker *broker = userdata;
    gt_debug("mqtt: %s", text);
    if (level != MOSQ_LOG_ERR && level != MOSQ_LOG_WARNING)
        return;
    pthread_mutex_lock(&broker->lock);
    snprintf(broker->how.last_error, sizeof(broker->how.last_error), "%s", text);
    pthread_mutex_unlock(&broker->lock);
}

void gt_broker_set_callbacks(struct mosquitto *mosquitto)
{
    mosquitto_connect_v5_callback_set(mosquitto, broker_on_connack);
    mosquitto_disconnect_v5_callback_set(mosquitto, broker_on_disconnect);
    mosquitto_subscribe_v5_callback_set(mosquitto, broker_on_suback);
    mosquitto_message_v5_callback_set(mosquitto, broker_on_message);
    mosquitto_publish_v5_callback_set(mosquitto, broker_on_puback);
    mosquitto_log_callback_set(mosquitto, broker_on_log);
}
