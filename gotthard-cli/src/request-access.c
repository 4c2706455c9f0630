/* SPDX-License-Identifier: ISC */
/*
 * The access list in a request: it comes on the same connection, before the device's answer. Part 0
 * states how many parts there are; each is subscribed by its exact name, which brokers need that
 * send retained messages for exact names only.
 */
#include "gotthard/base/log.h"
#include "gotthard/signaling/topic.h"
#include "request-internal.h"

static struct operator_access *access_of(const struct request *request)
{
    return request->settings.identity->access;
}

/* Subscribes to all parts before @n that are not yet. */
static int subscribe_parts(struct request *request, size_t n)
{
    const char *prefix = request->settings.settings->mqtt_prefix;
    int r = 0, id;

    while (r == 0 && request->n_parts < n) {
        size_t n_next = GT_MIN(n - request->n_parts, (size_t)GT_MQTT_FILTERS_MAX);

        r = gt_mqtt_subscribe_parts(request->mqtt, prefix, request->n_parts, n_next, &id);
        if (r == 0)
            request->n_parts += n_next;
    }
    return r;
}

int request_subscribe_list(struct request *request)
{
    request->n_parts = 0;
    return access_of(request) ? subscribe_parts(request, 1) : 0;
}

bool request_receive_list(struct request *request, const char *topic, struct gt_span payload)
{
    if (!access_of(request) || !gt_topic_is_access(request->settings.settings->mqtt_prefix, topic))
        return false;
    operator_access_receive(access_of(request), payload);
    if (subscribe_parts(request, operator_access_parts(access_of(request))) != 0)
        gt_debug("device=%s the parts of the access list are not subscribed",
                 request->settings.device);
    return true;
}

bool request_awaits_list(const struct request *request)
{
    return access_of(request) && operator_access_is_awaited(access_of(request));
}

void request_explain_untrusted(struct request *request)
{
    const struct request_settings *settings = &request->settings;
    const struct identity *identity = settings->identity;

    if (identity->trust.policy != GT_POLICY_LIST)
        failure_set(&request->failure, FAILURE_UNTRUSTED, NULL,
                    "the answer is not from a trusted key: the key of %s is not pinned in %s",
                    settings->device, identity->pins_path);
    else if (access_of(request) && !operator_access_has_list(access_of(request)))
        failure_set(&request->failure, FAILURE_UNTRUSTED,
                    "gotthard-cli access publish, where the authority's key is, sends it again; "
                    "{trust.authority} must be the key of this fleet",
                    "the answer of %s cannot be trusted: there is no access list of this "
                    "authority, neither here nor at the broker",
                    settings->device);
    else
        failure_set(&request->failure, FAILURE_UNTRUSTED,
                    "compare the fingerprint of the device with its line in the access list "
                    "(gotthard-cli access show, where the authority's key is)",
                    "the answer is not from a trusted key: the access list has no valid entry of "
                    "%s with this key, or is older than trust.access_max_age",
                    settings->device);
}
