/* SPDX-License-Identifier: ISC */
/* The list at the broker: which one is there, and the whole of it. */
#include <string.h>

#include "access-broker-internal.h"
#include "gotthard/base/clock.h"

#define SILENCE_S .3
#define FETCHED_S 20. /* for a part */

/* --- reading ---------------------------------------------------------------------------------- */

static bool access_broker_is_published(const struct access_broker *broker)
{
    return broker->n_total > 0;
}

static void access_broker_read_end(struct access_broker *broker)
{
    bool is_there = broker->found.serial == authority_serial(broker->authority);

    if (!access_broker_is_published(broker) || is_there || !gt_mqtt_has_retained(broker->mqtt))
        access_broker_enter(broker, ACCESS_BROKER_READY);
    else
        access_broker_fail_refused(broker, "it acknowledges the messages, but does not keep them");
}

static bool broker_subscribe(struct access_broker *broker)
{
    const char *filter = broker->topic;
    int id;

    if (gt_mqtt_subscribe_all(broker->mqtt, &filter, 1, 0, &id) == 0)
        return true;
    access_broker_fail_mqtt(broker, "the connection was lost");
    return false;
}

void access_broker_read_step(struct access_broker *broker)
{
    double until, now = gt_clock();

    if (broker->state != ACCESS_BROKER_READING)
        return;
    switch (settling_next(&broker->settling, now, &until)) {
    case SETTLING_WAIT: access_broker_set_timer(broker, until - now); return;
    case SETTLING_MARK:
        settling_marked(&broker->settling, now);
        if (broker_subscribe(broker))
            access_broker_read_step(broker);
        return;
    case SETTLING_DONE: access_broker_read_end(broker); return;
    case SETTLING_SILENT:
    case SETTLING_OVERDUE: access_broker_fail_mqtt(broker, "no answer in time"); return;
    }
}

void access_broker_read(struct access_broker *broker)
{
    broker->found = (struct access_at_broker){0};
    access_broker_enter(broker, ACCESS_BROKER_READING);
    settling_begin(&broker->settling, SILENCE_S, gt_clock());
    if (broker_subscribe(broker))
        access_broker_read_step(broker);
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
void access_broker_read_part(struct access_broker *broker, struct gt_span payload)
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
    if (!access_broker_is_published(broker) || part.serial == authority_serial(broker->authority))
        access_broker_read_end(broker);
}

/* --- comparing ------------------------------------------------------------------------------- */

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

/* --- fetching --------------------------------------------------------------------------------- */

void access_broker_fetch_part(struct access_broker *broker, struct gt_span payload)
{
    int r = gt_access_assembly_add(&broker->assembly, payload, broker->authority->public_key, 0,
                                   &broker->text, &broker->n_text);

    if (r == 0)
        access_broker_enter(broker, ACCESS_BROKER_READY);
    else if (r == GT_ACCESS_PART_E_MORE)
        access_broker_set_timer(broker, FETCHED_S);
}

int access_broker_fetch(struct access_broker *broker, struct failure *ret_failure)
{
    const char *prefix = broker->context->settings->mqtt_prefix;
    size_t n_parts = broker->found.n_parts, max = GT_MQTT_FILTERS_MAX;
    int id;

    access_broker_enter(broker, ACCESS_BROKER_FETCHING);
    access_broker_set_timer(broker, FETCHED_S);
    for (size_t i = 0; i < n_parts && broker->state == ACCESS_BROKER_FETCHING; i += max)
        if (gt_mqtt_subscribe_parts(broker->mqtt, prefix, i, GT_MIN(n_parts - i, max), &id) != 0)
            access_broker_fail_mqtt(broker, "the connection was lost");
    return access_broker_run(broker, ret_failure);
}
