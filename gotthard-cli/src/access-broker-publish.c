/* SPDX-License-Identifier: ISC */
/*
 * Part 0 is published last, when the others are acknowledged: a receiver subscribes to them when it
 * has read part 0, and finds them retained. Then parts of an earlier list, beyond the last one of
 * this list, are removed.
 */
#include <string.h>

#include "access-broker-internal.h"
#include "gotthard/signaling/topic.h"

#define PUBLISHED_S 20.                                         /* for an acknowledgement */
#define IN_FLIGHT   16                                          /* messages without one */
#define PART_HEAD   (GT_ACCESS_PART_MAX - GT_ACCESS_PIECE_MQTT) /* bytes around a piece, at most */
#define PIECE_MIN   512

/* Returns the part that is published as message @i: 1, 2, ... n - 1, 0, n, ... */
static size_t part_of_message(const struct access_broker *broker, size_t i)
{
    if (i >= broker->n_parts)
        return i;
    return (i + 1) % broker->n_parts;
}

/* Encodes and sends part @part, or the deletion of one of an earlier list. */
static int broker_send(struct access_broker *broker, size_t part)
{
    const struct authority *authority = broker->authority;
    uint8_t buffer[GT_ACCESS_PART_MAX];
    char topic[GT_TOPIC_MAX + 1];
    size_t n = 0;
    int id, r = gt_topic_access(broker->context->settings->mqtt_prefix, part, topic);

    if (r == 0 && part < broker->n_parts)
        r = gt_access_part_encode(authority->key, gt_span(authority->text, authority->n_text),
                                  authority_serial(authority), part, broker->n_parts, buffer, &n);
    return r ? r : gt_mqtt_publish(broker->mqtt, topic, gt_span(buffer, n), true, 0, &id);
}

/* Returns true if the next message may leave. */
static bool broker_may_send(const struct access_broker *broker)
{
    bool is_part_0 = broker->n_sent + 1 == broker->n_parts;
    size_t n_unacknowledged = broker->n_sent - broker->n_acknowledged;

    return broker->n_sent < broker->n_total && n_unacknowledged < IN_FLIGHT &&
           (!is_part_0 || n_unacknowledged == 0);
}

static void broker_send_more(struct access_broker *broker)
{
    while (broker_may_send(broker)) {
        int r = broker_send(broker, part_of_message(broker, broker->n_sent));

        if (r == -ENOTCONN)
            access_broker_fail_mqtt(broker, "the connection was lost");
        else if (r != 0)
            access_broker_fail_refused(broker, r == -EOPNOTSUPP
                                                   ? "it does not accept the size or QoS 1"
                                               : r < 0 ? strerror(-r)
                                                       : "a part cannot be made");
        if (r != 0)
            return;
        broker->n_sent++;
    }
    access_broker_set_timer(broker, PUBLISHED_S);
}

void access_broker_on_published(void *userdata, int id, bool has_no_subscribers)
{
    struct access_broker *broker = userdata;

    if (broker->state != ACCESS_BROKER_PUBLISHING)
        return;
    if (++broker->n_acknowledged < broker->n_total)
        broker_send_more(broker);
    else
        access_broker_read(broker);
}

void access_broker_on_refused(void *userdata, int id, const char *why)
{
    struct access_broker *broker = userdata;

    if (broker->state == ACCESS_BROKER_PUBLISHING)
        access_broker_fail_refused(broker, why);
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
    access_broker_enter(broker, ACCESS_BROKER_PUBLISHING);
    broker_send_more(broker);
    return access_broker_run(broker, ret_failure);
}
