/* SPDX-License-Identifier: ISC */
/*
 * libmosquitto, kept where it can do no harm (HACKING.md has the list of what it does otherwise):
 * one instance for one connection, and one thread that alone runs its loop. Publishing goes
 * straight from the caller's thread: the library's own locks allow that, and a kick makes the
 * thread send at once.
 */
#include "gotthard/broker.h"

#include <mosquitto.h>
#include <mqtt_protocol.h>
#include <stdio.h>
#include <sys/eventfd.h>

#include "gotthard/brokerthread.h"

#define QOS 1

/* An encrypted key is refused: the library would ask for its passphrase on the terminal. */
static int no_passphrase(char *buf, int size, int rwflag, void *userdata)
{
    return 0;
}

static int set_tls(struct mosquitto *mosquitto, const struct gt_mqtt_settings *settings)
{
    const char *folder = settings->ca_file ? NULL : "/etc/ssl/certs";
    int rc = mosquitto_tls_set(mosquitto, settings->ca_file, folder, settings->cert_file,
                               settings->key_file, no_passphrase);
    if (rc == 0)
        rc = mosquitto_tls_opts_set(mosquitto, 1, "tlsv1.2", NULL);
    if (rc == 0 && settings->alpn)
        rc = mosquitto_string_option(mosquitto, MOSQ_OPT_TLS_ALPN, settings->alpn);
    return rc;
}

static int set_options(struct mosquitto *mosquitto, const struct gt_mqtt_settings *settings,
                       bool is_v5, const struct gt_broker_will *will)
{
    int version = is_v5 ? MQTT_PROTOCOL_V5 : MQTT_PROTOCOL_V311;
    int rc = mosquitto_threaded_set(mosquitto, true);
    if (rc == 0)
        rc = mosquitto_int_option(mosquitto, MOSQ_OPT_PROTOCOL_VERSION, version);
    if (rc == 0)
        rc = mosquitto_int_option(mosquitto, MOSQ_OPT_TCP_NODELAY, 1);
    if (rc == 0 && settings->username)
        rc = mosquitto_username_pw_set(mosquitto, settings->username, settings->password);
    if (rc == 0 && settings->is_tls)
        rc = set_tls(mosquitto, settings);
    if (rc == 0 && will)
        rc = mosquitto_will_set(mosquitto, will->topic, (int)will->payload.n, will->payload.data,
                                QOS, true);
    return rc;
}

static void init_library(void)
{
    mosquitto_lib_init();
}

int gt_broker_new(const struct gt_mqtt_settings *settings, bool is_v5,
                  const struct gt_broker_will *will, struct ev_loop *loop, ev_async *heard,
                  struct gt_broker **ret)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, init_library);
    if (gt_broker_thread_is_too_many())
        return -EAGAIN;
    struct gt_broker *broker = calloc(1, sizeof(*broker));
    if (!broker)
        return -ENOMEM;
    gt_broker_init_locks(broker);
    gt_reports_init(&broker->reports, loop, heard);
    broker->how.is_v5 = is_v5;
    broker->has_will = will;
    broker->port = settings->port;
    broker->keepalive_s = (int)settings->keepalive_s;
    snprintf(broker->host, sizeof(broker->host), "%s", settings->host);
    broker->kicked = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    broker->end = gt_report_new(GT_BROKER_ENDED, "", gt_span("", 0));
    broker->mosquitto = mosquitto_new(settings->client_id, true, broker);
    int r = broker->end && broker->mosquitto && broker->kicked >= 0 ? 0 : -ENOMEM;
    if (r == 0 && set_options(broker->mosquitto, settings, is_v5, will) != MOSQ_ERR_SUCCESS)
        r = -EINVAL;
    if (r == 0) {
        gt_broker_set_callbacks(broker->mosquitto);
        r = gt_broker_thread_begin(broker);
    }
    if (r < 0) {
        gt_broker_destroy(broker);
        return r;
    }
    *ret = broker;
    return 0;
}

struct gt_broker *gt_broker_free(struct gt_broker *broker, unsigned patience_ms)
{
    if (!broker)
        return NULL;
    if (patience_ms)
        gt_broker_thread_leave(broker, patience_ms);
    gt_broker_thread_let_go(broker);
    return NULL;
}

void gt_broker_check(struct gt_broker *broker)
{
    atomic_store(&broker->is_check_due, true);
    gt_broker_kick(broker);
}

struct gt_broker_report *gt_broker_take(struct gt_broker *broker)
{
    return broker ? gt_reports_take(&broker->reports) : NULL;
}

static int to_errno(int rc)
{
    if (rc == MOSQ_ERR_SUCCESS)
        return 0;
    if (rc == MOSQ_ERR_NOMEM)
        return -ENOMEM;
    if (rc == MOSQ_ERR_OVERSIZE_PACKET || rc == MOSQ_ERR_QOS_NOT_SUPPORTED ||
        rc == MOSQ_ERR_RETAIN_NOT_SUPPORTED)
        return -EOPNOTSUPP; /* as its CONNACK said */
    return rc == MOSQ_ERR_NO_CONN || rc == MOSQ_ERR_CONN_LOST ? -ENOTCONN : -EINVAL;
}

int gt_broker_publish(struct gt_broker *broker, const char *topic, struct gt_span payload,
                      bool is_retained, unsigned expiry_s, int *ret_id)
{
    mosquitto_property *properties = NULL;
    int id = 0, rc = 0;
    if (broker->how.is_v5 && expiry_s)
        rc = mosquitto_property_add_int32(&properties, MQTT_PROP_MESSAGE_EXPIRY_INTERVAL, expiry_s);
    gt_broker_count(broker, 1);
    if (rc == 0)
        rc = mosquitto_publish_v5(broker->mosquitto, &id, topic, (int)payload.n, payload.data, QOS,
                                  is_retained, properties);
    mosquitto_property_free_all(&properties);
    gt_broker_kick(broker);
    if (rc) {
        gt_broker_count(broker, -1);
        return to_errno(rc);
    }
    *ret_id = id;
    return 0;
}

int gt_broker_subscribe(struct gt_broker *broker, const char *filter)
{
    int rc = mosquitto_subscribe(broker->mosquitto, NULL, filter, QOS);
    gt_broker_kick(broker);
    return to_errno(rc);
}
