/* SPDX-License-Identifier: ISC */
/* A table of the gaps of a list: the first that applies is the reason. */
#include "list-verdict.h"

#include <stdio.h>

#define HINT_AGAIN "run the command again; a limit of the broker's queue may be too small"
#define HINT_NAME                                                                          \
    "AWS IoT Core and RabbitMQ send states only by name, and a broker's access rules may " \
    "withhold them: name the devices in client.devices or trust.pins"

static bool is_without_answer_to_all(const struct list_facts *facts)
{
    return facts->is_all_refused || facts->n_by_all == 0;
}

static bool is_lost(const struct list_facts *facts)
{
    return facts->end == LIST_LOST;
}

static bool is_silent(const struct list_facts *facts)
{
    return facts->end == LIST_SILENT;
}

static bool is_overdue(const struct list_facts *facts)
{
    return facts->end == LIST_OVERDUE;
}

static bool is_flooded(const struct list_facts *facts)
{
    return facts->end == LIST_FLOODED;
}

static bool keeps_no_states(const struct list_facts *facts)
{
    return facts->keeps_no_states;
}

static bool is_dropped(const struct list_facts *facts)
{
    return facts->n_dropped > 0;
}

static bool is_lossy(const struct list_facts *facts)
{
    return facts->is_dropping || (facts->n_by_name > 0 && !is_without_answer_to_all(facts));
}

static bool is_name_refused(const struct list_facts *facts)
{
    return facts->n_refused > 0;
}

static bool is_unasked(const struct list_facts *facts)
{
    return facts->n_unasked > 0 && is_without_answer_to_all(facts);
}

static bool is_empty(const struct list_facts *facts)
{
    return is_without_answer_to_all(facts) && facts->n_by_name == 0;
}

static bool is_by_memory(const struct list_facts *facts)
{
    return is_without_answer_to_all(facts) && !facts->is_declared;
}

static const struct gap {
    bool (*applies)(const struct list_facts *facts);
    const char *why, *hint;
} gaps[] = {
    {keeps_no_states, "the broker keeps no retained messages, and so no states of devices",
     "permit retained messages at the broker; `status DEVICE` names one device"},
    {is_lost, "the connection to the broker was lost", HINT_AGAIN},
    {is_silent, "the broker stopped answering", HINT_AGAIN},
    {is_overdue, "states of further devices still arrived after 10 minutes", HINT_AGAIN},
    {is_flooded, "a client of the broker publishes too many states that do not open with this key",
     "find it in the broker's log; mosquitto-example.acl limits each device to its own state"},
    {is_dropped, "there are more devices than the list has room for",
     "use another mqtt.prefix for each fleet"},
    {is_lossy, "the broker does not send the states of all devices at once",
     "raise the limit of the broker's queue (mosquitto: max_queued_messages 0 with max_queued_bytes)"},
    {is_name_refused, "the broker refuses subscriptions to known devices",
     "permit this operator to read the state of every device at the broker"},
    {is_unasked, "not all known names could be asked", HINT_AGAIN},
    {is_empty, "no state of a device came from the broker", HINT_NAME},
    {is_by_memory, "the broker sent states only of devices that were asked by name", HINT_NAME},
};

void list_verdict_of(const struct list_facts *facts, struct list_verdict *ret)
{
    *ret = (struct list_verdict){
        .is_whole = true,
        .keeps_no_states = facts->keeps_no_states,
        .is_by_name = is_without_answer_to_all(facts),
    };
    for (size_t i = 0; i < GT_ARRAY_SIZE(gaps); i++) {
        if (!gaps[i].applies(facts))
            continue;
        ret->is_whole = false;
        ret->hint = gaps[i].hint;
        snprintf(ret->why, sizeof(ret->why), "%s%s%s", gaps[i].why, *facts->why ? ": " : "",
                 facts->why);
        return;
    }
}
