/* SPDX-License-Identifier: ISC */
/*
 * The subscription to the access list. It follows the one to requests, and a broker that refuses it
 * leaves the device online: the list in force stays.
 */
#include "gotthard/base/log.h"
#include "presence-internal.h"

void presence_access_subscribe(struct presence_link *link)
{
    const struct setup *setup = link->presence->setup;
    char filter[GT_TOPIC_MAX + 1];
    const char *filters[] = {filter};

    if (setup->trust.policy != GT_POLICY_LIST ||
        gt_topic_access(setup->settings->mqtt_prefix, "+", filter) != 0)
        return;
    int r = gt_mqtt_subscribe_all(link->mqtt, filters, 1, 1, &link->access_id);
    if (r)
        gt_warn_errno(r, "device=%s cannot subscribe to the access list",
                      presence_device(link->presence));
}

static void link_refuse_access(struct presence_link *link, const char *why)
{
    unsigned n_suppressed;

    if (gt_log_is_allowed(&link->access_refused, 1, &n_suppressed))
        gt_error("device=%s receives no access lists there: the broker refuses the subscription "
                 "broker=%s:%u topic=%s/fleet/access/+ reason=\"%s\"",
                 presence_device(link->presence), link->broker.host, link->broker.port,
                 link->presence->setup->settings->mqtt_prefix, why);
}

bool presence_access_on_suback(struct presence_link *link, int id, unsigned n_refused,
                               const char *why)
{
    if (!link->access_id || id != link->access_id)
        return false;
    link->access_id = 0;
    if (n_refused > 0)
        link_refuse_access(link, why);
    return true;
}

void presence_request_access(struct presence *presence)
{
    if (presence_is_up(presence) && presence->link->is_begun)
        presence_access_subscribe(presence->link);
}
