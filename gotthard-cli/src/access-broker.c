/* SPDX-License-Identifier: ISC */
/* CONNECTING -> READING -> READY, then PUBLISHING -> READING -> READY or FETCHING -> READY; any ->
 * FAILED. */
#include "access-broker.h"

#include <stdio.h>
#include <string.h>

#include "gotthard/base/clock.h"
#include "gotthard/signaling/topic.h"

#define SILENCE_S   .3
#define CONNECTED_S 25.                                         /* for the connection */
#define PUBLISHED_S 20.                                         /* for an acknowledgement */
#define IN_FLIGHT   16                                          /* messages without one */
#define PART_HEAD   (GT_ACCESS_PART_MAX - GT_ACCESS_PIECE_MQTT) /* bytes around a piece, at most */
#define PIECE_MIN   512
#define HINT_PUBLISH                                                                         \
    "permit this operator to publish to {mqtt.prefix}/fleet/access/+ and to read it at the " \
    "broker, as mosquitto-example.acl shows; then run gotthard-cli access publish"

/* --- states ----------------------------------------------------------------------------------- */

static void broker_set_timer(struct access_broker *broker, double seconds)
{
    struct ev_loop *loop = broker->context->loop;

    ev_timer_stop(loop, &broker->timer);
    ev_now_update(loop);
    ev_timer_set(&broker->timer, GT_MAX(seconds, 0.), 0.);
    ev_timer_start(loop, &broker->timer);
}

/* The function that runs the loop returns. */
static void broker_enter(struct access_broker *broker, enum access_broker_state state)
{
    broker->state = state;
    if (state != ACCESS_BROKER_READY && state != ACCESS_BROKER_FAILED)
        return;
    ev_timer_stop(broker->context->loop, &broker->timer);
    ev_break(broker->context->loop, EVBREAK_ALL);
}

static void broker_fail_mqtt(struct access_broker *broker, const char *why)
{
    mqtt_connect_failure(broker->context->settings,
                         broker->mqtt ? gt_mqtt_last_outcome(broker->mqtt) : NULL, why,
                         &broker->failure);
    broker_enter(broker, ACCESS_BROKER_FAILED);
}

static void broker_fail_refused(struct access_broker *broker, const char *why)
{
    failure_set(&broker->failure, FAILURE_BROKER_REFUSED, HINT_PUBLISH,
                "the access list is signed and stored, but not at the broker: %s", why);
    broker_enter(broker, ACCESS_BROKER_FAILED);
}

static void broker_on_signal(void *userdata, int number)
{
    struct access_broker *broker = userdata;

    broker->is_interrupted = true;
    ev_break(broker->context->loop, EVBREAK_ALL);
}

/* Runs the loop until the state is READY or FAILED. */
static int broker_run(struct access_broker *broker, struct failure *ret_failure)
{
    struct command_signals signals;

    command_signals_start(&signals, broker->context->loop, broker_on_signal, broker);
    if (broker->state != ACCESS_BROKER_FAILED)
        ev_run(broker->context->loop, 0);
    command_signals_stop(&signals);
    if (broker->is_interrupted)
        return ACCESS_BROKER_E_INTERRUPTED;
    if (broker->state == ACCESS_BROKER_READY)
        return 0;
    *ret_failure = broker->failure;
    return 1;
}

/* --- reading ---------------------------------------------------------------------------------- */

static bool broker_is_published(const struct access_broker *broker)
{
    return broker->n_total > 0;
}

static void broker_read_end(struct access_broker *broker)
{
    bool is_there = broker->found.serial == authority_serial(broker->authority);

    if (!broker_is_published(broker) || is_there || !gt_mqtt_has_retained(broker->mqtt))
        broker_enter(broker, ACCESS_BROKER_READY);
    else
        broker_fail_refused(broker, "it acknowledges the messages, but does not keep them");
}

static bool broker_subscribe(struct access_broker *broker)
{
    const char *filter = broker->topic;
    int id;

    if (gt_mqtt_subscribe_all(broker->mqtt, &filter, 1, 0, &id) == 0)
        return true;
    broker_fail_mqtt(broker, "the connection was lost");
    return false;
}

static void broker_read_step(struct access_broker *broker)
{
    double until, now = gt_clock();

    if (broker->state != ACCESS_BROKER_READING)
        return;
    switch (settling_next(&broker->settling, now, &until)) {
    case SETTLING_WAIT: broker_set_timer(broker, until - now); return;
    case SETTLING_MARK:
        settling_marked(&broker->settling, now);
        if (broker_subscribe(broker))
            broker_read_step(broker);
        return;
    case SETTLING_DONE: broker_read_end(broker); return;
    case SETTLING_SILENT:
    case SETTLING_OVERDUE: broker_fail_mqtt(broker, "no answer in time"); return;
    }
}

static void broker_read(struct access_broker *broker)
{
    broker->found = (struct access_at_broker){0};
    broker_enter(broker, ACCESS_BROKER_READING);
    settling_begin(&broker->settling, SILENCE_S, gt_clock());
    if (broker_subscribe(broker))
        broker_read_step(broker);
}

/* Returns true for a part of this authority. */
static bool broker_open_part(const struct access_broker *broker, struct gt_span payload,
                             struct gt_access_part *ret)
{
    return gt_access_part_decode(payload, ret) == 0 &&
           gt_access_verify(broker->authority->public_key, GT_ACCESS_CONTEXT_PART, ret->body,
                            ret->signature) == 0;
}

/* A topic has one retained message, and the broker sends it again at each subscription. */
static void broker_read_part(struct access_broker *broker, struct gt_span payload)
{
    struct gt_access_part part;

    if (!broker_open_part(broker, payload, &part)) {
        print_warning(&broker->context->print,
                      "the broker has a part of an access list that is damaged or of another "
                      "authority");
        return;
    }
    broker->found = (struct access_at_broker){.serial = part.serial, .n_parts = part.parts};
    memcpy(broker->found.hash, part.hash, sizeof(part.hash));
    if (!broker_is_published(broker) || part.serial == authority_serial(broker->authority))
        broker_read_end(broker);
}

/* --- fetching --------------------------------------------------------------------------------- */

/* Subscribes to parts @first and following. Returns 0 or a negative errno. */
static int broker_subscribe_parts(struct access_broker *broker, size_t first, size_t n)
{
    char topics[GT_MQTT_FILTERS_MAX][GT_TOPIC_MAX + 1], part[8];
    const char *filters[GT_MQTT_FILTERS_MAX];
    int id, r = 0;

    for (size_t i = 0; i < n && r == 0; i++) {
        snprintf(part, sizeof(part), "%u", (unsigned)(first + i));
        r = gt_topic_access(broker->context->settings->mqtt_prefix, part, topics[i]);
        filters[i] = topics[i];
    }
    if (r != 0)
        return -EINVAL;
    return gt_mqtt_subscribe_all(broker->mqtt, filters, n, 1, &id);
}

static void broker_fetch_part(struct access_broker *broker, struct gt_span payload)
{
    int r = gt_access_assembly_add(&broker->assembly, payload, broker->authority->public_key, 0,
                                   &broker->text, &broker->n_text);

    if (r == 0)
        broker_enter(broker, ACCESS_BROKER_READY);
    else if (r == GT_ACCESS_PART_E_MORE)
        broker_set_timer(broker, PUBLISHED_S);
}

int access_broker_fetch(struct access_broker *broker, struct failure *ret_failure)
{
    size_t n_parts = broker->found.n_parts;

    broker_enter(broker, ACCESS_BROKER_FETCHING);
    broker_set_timer(broker, PUBLISHED_S);
    for (size_t i = 0; i < n_parts && broker->state == ACCESS_BROKER_FETCHING;
         i += GT_MQTT_FILTERS_MAX)
        if (broker_subscribe_parts(broker, i, GT_MIN(n_parts - i, (size_t)GT_MQTT_FILTERS_MAX)))
            broker_fail_mqtt(broker, "the connection was lost");
    return broker_run(broker, ret_failure);
}

/* --- messages --------------------------------------------------------------------------------- */

static void broker_on_message(void *userdata, const char *topic, bool is_retained,
                              struct gt_span payload)
{
    struct access_broker *broker = userdata;

    if (payload.n == 0)
        return;
    if (broker->state == ACCESS_BROKER_READING && is_retained && strcmp(topic, broker->topic) == 0)
        broker_read_part(broker, payload);
    else if (broker->state == ACCESS_BROKER_FETCHING)
        broker_fetch_part(broker, payload);
}

static void broker_on_suback(void *userdata, int id, unsigned n_refused, const char *why)
{
    struct access_broker *broker = userdata;

    if (broker->state != ACCESS_BROKER_READING)
        return;
    if (n_refused > 0) {
        failure_set(&broker->failure, FAILURE_BROKER_REFUSED, HINT_PUBLISH,
                    "the broker refuses to show the access list: %s", why);
        broker_enter(broker, ACCESS_BROKER_FAILED);
        return;
    }
    settling_answered(&broker->settling, gt_clock());
    broker_read_step(broker);
}

static void broker_on_subscribed(void *userdata)
{
}

/* --- publishing ------------------------------------------------------------------------------- */

/* Encodes and sends message @i: a part, or the deletion of one of an earlier list. */
static int broker_send(struct access_broker *broker, size_t i)
{
    const struct authority *authority = broker->authority;
    uint8_t buffer[GT_ACCESS_PART_MAX];
    char topic[GT_TOPIC_MAX + 1], part[8];
    size_t n = 0;
    int id;

    snprintf(part, sizeof(part), "%u", (unsigned)i);
    int r = gt_topic_access(broker->context->settings->mqtt_prefix, part, topic);
    if (r == 0 && i < broker->n_parts)
        r = gt_access_part_encode(authority->key, gt_span(authority->text, authority->n_text),
                                  authority_serial(authority), i, broker->n_parts, buffer, &n);
    return r ? r : gt_mqtt_publish(broker->mqtt, topic, gt_span(buffer, n), true, 0, &id);
}

static void broker_send_more(struct access_broker *broker)
{
    while (broker->n_sent < broker->n_total &&
           broker->n_sent - broker->n_acknowledged < IN_FLIGHT) {
        int r = broker_send(broker, broker->n_sent);

        if (r == -ENOTCONN)
            broker_fail_mqtt(broker, "the connection was lost");
        else if (r != 0)
            broker_fail_refused(broker, r == -EOPNOTSUPP ? "it does not accept the size or QoS 1"
                                        : r < 0          ? strerror(-r)
                                                         : "a part cannot be made");
        if (r != 0)
            return;
        broker->n_sent++;
    }
    broker_set_timer(broker, PUBLISHED_S);
}

static void broker_on_published(void *userdata, int id, bool has_no_subscribers)
{
    struct access_broker *broker = userdata;

    if (broker->state != ACCESS_BROKER_PUBLISHING)
        return;
    if (++broker->n_acknowledged < broker->n_total)
        broker_send_more(broker);
    else
        broker_read(broker);
}

static void broker_on_refused(void *userdata, int id, const char *why)
{
    struct access_broker *broker = userdata;

    if (broker->state == ACCESS_BROKER_PUBLISHING)
        broker_fail_refused(broker, why);
}

/* Returns the bytes of a piece that fit the broker's packets, 0: none. */
static size_t broker_piece(const struct access_broker *broker)
{
    size_t overhead = PART_HEAD + strlen(broker->topic) + 4 + GT_MQTT_OVERHEAD;
    size_t max = gt_mqtt_max_packet(broker->mqtt);

    if (max < overhead + PIECE_MIN)
        return 0;
    return GT_MIN((size_t)GT_ACCESS_PIECE_MQTT, max - overhead);
}

int access_broker_publish(struct access_broker *broker, size_t n_before,
                          struct failure *ret_failure)
{
    size_t piece = broker_piece(broker), n_old;

    if (piece == 0)
        return failure_set(ret_failure, FAILURE_BROKER_REFUSED,
                           "configure the broker to accept messages of 8192 bytes",
                           "the broker accepts messages of %lu bytes only",
                           (unsigned long)gt_mqtt_max_packet(broker->mqtt));
    if (!gt_mqtt_has_retained(broker->mqtt))
        print_warning(
            &broker->context->print,
            "the broker keeps no retained messages: a device that is offline now gets the "
            "list only when it is published again");
    n_old = n_before > 0 ? gt_access_parts_count(n_before, piece) : 0;
    broker->n_parts = gt_access_parts_count(broker->authority->n_text, piece);
    broker->n_total = GT_MAX(broker->n_parts, GT_MAX(n_old, broker->found.n_parts));
    broker_enter(broker, ACCESS_BROKER_PUBLISHING);
    broker_send_more(broker);
    return broker_run(broker, ret_failure);
}

/* --- the connection --------------------------------------------------------------------------- */

static void broker_on_up(void *userdata)
{
    struct access_broker *broker = userdata;

    if (broker->state == ACCESS_BROKER_CONNECTING)
        broker_read(broker);
}

static void broker_on_down(void *userdata, const char *why, unsigned retry_ms)
{
    struct access_broker *broker = userdata;

    if (broker->state != ACCESS_BROKER_FAILED)
        broker_fail_mqtt(broker, why);
}

static void broker_on_timer(struct ev_loop *loop, ev_timer *timer, int revents)
{
    struct access_broker *broker = timer->data;

    if (broker->state == ACCESS_BROKER_READING)
        broker_read_step(broker);
    else
        broker_fail_mqtt(broker, "no answer in time");
}

int access_broker_open(struct context *context, const struct authority *authority,
                       struct identity *identity, struct access_broker *ret,
                       struct failure *ret_failure)
{
    static const struct gt_mqtt_events events = {
        .on_up = broker_on_up,
        .on_down = broker_on_down,
        .on_subscribed = broker_on_subscribed,
        .on_suback = broker_on_suback,
        .on_message = broker_on_message,
        .on_published = broker_on_published,
        .on_refused = broker_on_refused,
    };

    *ret = (struct access_broker){.context = context, .authority = authority, .identity = identity};
    ev_init(&ret->timer, broker_on_timer);
    ret->timer.data = ret;
    gt_access_assembly_init(&ret->assembly);
    if (gt_topic_access(context->settings->mqtt_prefix, "0", ret->topic) != 0)
        return failure_set(ret_failure, FAILURE_CONFIG, "shorten {mqtt.prefix}",
                           "cannot form the topic of the access list");
    if (mqtt_connect(context->loop, context->settings, identity, &context->print, &events, ret,
                     &ret->mqtt, ret_failure) != 0)
        return 1;
    broker_set_timer(ret, CONNECTED_S);
    return broker_run(ret, ret_failure);
}

int access_broker_check(const struct access_broker *broker, struct failure *ret_failure)
{
    static const char hint[] =
        "another administrator, or another machine with this key, has changed the list: "
        "gotthard-cli access fetch takes the list from the broker, then repeat the change";
    const struct authority *authority = broker->authority;
    uint64_t serial = authority_serial(authority);
    const struct gt_span text = gt_span(authority->text, authority->n_text);
    uint8_t hash[GT_KEY_SIZE];

    if (broker->found.serial > serial)
        return failure_set(ret_failure, FAILURE_LIST_NEWER, hint,
                           "the access list at the broker has the serial %llu, and the one in %s "
                           "has %llu",
                           (unsigned long long)broker->found.serial, authority->list_path,
                           (unsigned long long)serial);
    if (serial == 0 || broker->found.serial < serial)
        return 0;
    if (gt_sha256(&text, 1, hash) != 0)
        return failure_set(ret_failure, FAILURE_INTERNAL, NULL, "cannot hash the list");
    if (memcmp(hash, broker->found.hash, sizeof(hash)) == 0)
        return 0;
    return failure_set(ret_failure, FAILURE_LIST_NEWER, hint,
                       "the access list at the broker has the serial %llu as the one in %s, but "
                       "is another one",
                       (unsigned long long)serial, authority->list_path);
}

void access_broker_close(struct access_broker *broker)
{
    if (!broker->context)
        return;
    ev_timer_stop(broker->context->loop, &broker->timer);
    broker->mqtt = gt_mqtt_free(broker->mqtt);
    gt_access_assembly_deinit(&broker->assembly);
    free(gt_steal(&broker->text));
    broker->context = NULL;
}
