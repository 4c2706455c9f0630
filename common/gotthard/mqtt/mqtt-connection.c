/* SPDX-License-Identifier: ISC */
/*
 * libmosquitto in isolation: one instance per connection, and one thread that alone runs its loop.
 * HACKING.md lists the faults of libmosquitto that this file confines. Publishing happens in the
 * caller's thread, which the library's locks permit, and a wake-up makes the connection's thread
 * send at once.
 */
#include "gotthard/mqtt/mqtt-connection.h"

#include <mosquitto.h>
#include <mqtt_protocol.h>
#include <stdio.h>
#include <sys/eventfd.h>

#include "gotthard/mqtt/mqtt-thread.h"
#include "gotthard/tls/certificate-context.h"

#define QOS                1
#define UNACKNOWLEDGED_MAX 256 /* messages */

static int set_options(struct mosquitto *mosquitto, const struct gt_mqtt_settings *settings,
                       bool is_v5, const struct gt_mqtt_connection_will *will)
{
    int version = is_v5 ? MQTT_PROTOCOL_V5 : MQTT_PROTOCOL_V311;
    int rc = mosquitto_threaded_set(mosquitto, true);

    if (rc == 0)
        rc = mosquitto_int_option(mosquitto, MOSQ_OPT_PROTOCOL_VERSION, version);
    if (rc == 0)
        rc = mosquitto_int_option(mosquitto, MOSQ_OPT_TCP_NODELAY, 1);
    if (rc == 0 && settings->receive_maximum)
        rc = mosquitto_int_option(mosquitto, MOSQ_OPT_RECEIVE_MAXIMUM,
                                  (int)settings->receive_maximum);
    if (rc == 0 && settings->username)
        rc = mosquitto_username_pw_set(mosquitto, settings->username, settings->password);
    if (rc == 0 && will)
        rc = mosquitto_will_set(mosquitto, will->topic, (int)will->payload.n, will->payload.data,
                                QOS, will->is_retained);
    return rc;
}

static void init_library(void)
{
    mosquitto_lib_init();
}

static int connection_add_candidate(struct gt_mqtt_connection *connection,
                                    const struct gt_mqtt_settings *settings,
                                    const struct gt_mqtt_connection_will *will,
                                    const struct gt_addr *addr)
{
    struct mosquitto *mosquitto = mosquitto_new(settings->client_id, true, connection);

    if (!mosquitto)
        return -ENOMEM;
    int rc = set_options(mosquitto, settings, connection->how.is_v5, will);
    if (rc) {
        mosquitto_destroy(mosquitto);
        return rc == MOSQ_ERR_NOMEM ? -ENOMEM : -EINVAL;
    }
    gt_mqtt_connection_set_callbacks(mosquitto);
    connection->race.candidates[connection->race.n++] =
        (struct gt_mqtt_candidate){.mosquitto = mosquitto, .addr = *addr};
    return 0;
}

static void connection_set_proxy(struct gt_mqtt_connection *connection,
                                 const struct gt_mqtt_settings *settings)
{
    connection->proxy = *settings->proxy;
    snprintf(connection->broker.host, sizeof(connection->broker.host), "%s", settings->host);
    connection->broker.port = settings->port;
    connection->how.is_at_proxy = true;
    gt_proxy_name(settings->proxy, connection->how.proxy);
}

int gt_mqtt_connection_new(const struct gt_mqtt_settings *settings, const struct gt_addr *addrs,
                           size_t n_addrs, bool is_v5, const struct gt_mqtt_connection_will *will,
                           const struct gt_mqtt_probed *probed, struct ev_loop *loop,
                           ev_async *wakeup, struct gt_mqtt_connection **ret)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, init_library);
    if (gt_mqtt_thread_limit_reached())
        return -EAGAIN;
    struct gt_mqtt_connection *connection = calloc(1, sizeof(*connection));
    if (!connection)
        return -ENOMEM;
    gt_mqtt_connection_init_locks(connection);
    gt_mqtt_queue_init(&connection->queue, settings->backlog, loop, wakeup);
    connection->how.is_v5 = is_v5;
    connection->probed = *probed;
    connection->how.is_tls = settings->tls;
    snprintf(connection->how.client_id, sizeof(connection->how.client_id), "%s",
             settings->client_id);
    gt_certificate_context_own(settings->tls, &connection->how.own);
    if (settings->proxy)
        connection_set_proxy(connection, settings);
    connection->race.tls = gt_certificate_context_ref(settings->tls);
    connection->has_will = will;
    connection->keepalive_s = (int)settings->keepalive_s;
    connection->wakeup_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    connection->end = gt_mqtt_event_new(GT_MQTT_EVENT_ENDED, "", gt_span("", 0));
    int r = connection->end && connection->wakeup_fd >= 0 ? 0 : -ENOMEM;
    for (size_t i = 0; r == 0 && i < GT_MIN(n_addrs, GT_RESOLVE_MAX); i++)
        r = connection_add_candidate(connection, settings, will, &addrs[i]);
    if (r == 0)
        r = gt_mqtt_thread_start(connection);
    if (r < 0) {
        gt_mqtt_connection_destroy(connection);
        return r;
    }
    *ret = connection;
    return 0;
}

struct gt_mqtt_connection *gt_mqtt_connection_free(struct gt_mqtt_connection *connection,
                                                   unsigned timeout_ms)
{
    if (!connection)
        return NULL;
    gt_mqtt_queue_close(&connection->queue); /* the thread must not wait for room */
    if (timeout_ms)
        gt_mqtt_thread_stop(connection, timeout_ms);
    gt_mqtt_thread_abandon(connection);
    return NULL;
}

bool gt_mqtt_connection_has_peer(struct gt_mqtt_connection *connection)
{
    pthread_mutex_lock(&connection->lock);
    bool has_peer = connection->state != GT_MQTT_CONNECTION_CONNECTING;
    pthread_mutex_unlock(&connection->lock);
    return has_peer;
}

void gt_mqtt_connection_check(struct gt_mqtt_connection *connection)
{
    atomic_store(&connection->is_check_due, true);
    gt_mqtt_connection_wake_up(connection);
}

struct gt_mqtt_event *gt_mqtt_connection_next_event(struct gt_mqtt_connection *connection)
{
    return connection ? gt_mqtt_queue_pop(&connection->queue) : NULL;
}

static int to_errno(int rc)
{
    if (rc == MOSQ_ERR_SUCCESS)
        return 0;
    if (rc == MOSQ_ERR_NOMEM)
        return -ENOMEM;
    if (rc == MOSQ_ERR_OVERSIZE_PACKET || rc == MOSQ_ERR_QOS_NOT_SUPPORTED)
        return -EOPNOTSUPP; /* according to its CONNACK */
    return rc == MOSQ_ERR_NO_CONN || rc == MOSQ_ERR_CONN_LOST ? -ENOTCONN : -EINVAL;
}

int gt_mqtt_connection_publish(struct gt_mqtt_connection *connection, const char *topic,
                               struct gt_span payload, bool is_retained, unsigned expiry_s,
                               int *ret_id)
{
    mosquitto_property *properties = NULL;
    int id = 0, rc = 0;

    if (gt_mqtt_connection_n_unacknowledged(connection) >= UNACKNOWLEDGED_MAX)
        return -EAGAIN;
    if (connection->how.is_v5 && expiry_s)
        rc = mosquitto_property_add_int32(&properties, MQTT_PROP_MESSAGE_EXPIRY_INTERVAL, expiry_s);
    gt_mqtt_connection_count_unacknowledged(connection, 1);
    if (rc == 0)
        rc = mosquitto_publish_v5(connection->mosquitto, &id, topic, (int)payload.n, payload.data,
                                  QOS, is_retained, properties);
    mosquitto_property_free_all(&properties);
    gt_mqtt_connection_wake_up(connection);
    if (rc) {
        gt_mqtt_connection_count_unacknowledged(connection, -1);
        return to_errno(rc);
    }
    *ret_id = id;
    return 0;
}

int gt_mqtt_connection_subscribe(struct gt_mqtt_connection *connection, const char *const *filters,
                                 size_t n, unsigned qos, int *ret_id)
{
    int id = 0;
    int rc = mosquitto_subscribe_multiple(connection->mosquitto, &id, (int)n,
                                          (char *const *)filters, (int)qos, 0, NULL);

    if (rc == MOSQ_ERR_NOMEM)
        gt_mqtt_connection_run_out_of_memory(connection);
    else
        gt_mqtt_connection_wake_up(connection);
    if (rc == 0)
        *ret_id = id;
    return to_errno(rc);
}
