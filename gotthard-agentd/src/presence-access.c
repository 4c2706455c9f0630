/* SPDX-License-Identifier: ISC */
/*
 * The subscriptions to the access list. They follow the one to requests, and a broker that refuses
 * them leaves the device online: the list in force stays.
 *
 * Each part has a topic, and is subscribed by its exact name, since some brokers send retained
 * messages for exact names only (AWS IoT Core). Part 0 states how many there are, and is published
 * last: the others are retained when it arrives. One SUBSCRIBE is outstanding at a time.
 *
 * Part 0 is subscribed twice, because a subscription may work later than it was granted: a list
 * that is published meanwhile is retained at the second one.
 */
#include "gotthard/base/log.h"
#include "presence-internal.h"

#define AGAIN_S 2.

static void link_subscribe_parts(struct presence_link *link)
{
    size_t n = GT_MIN(link->n_awaited - link->n_parts, (size_t)GT_MQTT_FILTERS_MAX);

    if (n == 0 || link->access_id)
        return;
    int r = gt_mqtt_subscribe_parts(link->mqtt, link->presence->setup->settings->mqtt_prefix,
                                    link->n_parts, n, &link->access_id);
    if (r == 0)
        link->n_parts += n;
    else
        gt_warn_errno(r, "device=%s cannot subscribe to the access list",
                      presence_device(link->presence));
}

static void link_subscribe_first(struct presence_link *link)
{
    if (link->presence->setup->trust.policy != GT_POLICY_LIST)
        return;
    link->n_parts = 0;
    link->n_awaited = 1;
    link_subscribe_parts(link);
}

static void link_on_parts_again(struct ev_loop *loop, ev_timer *timer, int revents)
{
    link_subscribe_first(timer->data);
}

void presence_access_init(struct presence_link *link)
{
    ev_timer_init(&link->parts_again, link_on_parts_again, AGAIN_S, 0.);
    link->parts_again.data = link;
}

void presence_access_reset(struct presence_link *link)
{
    ev_timer_stop(link->presence->loop, &link->parts_again);
    link->access_id = 0;
    link->n_parts = link->n_awaited = 0;
}

void presence_access_begin(struct presence_link *link)
{
    link_subscribe_first(link);
    ev_timer_set(&link->parts_again, AGAIN_S, 0.);
    ev_timer_start(link->presence->loop, &link->parts_again);
}

static void link_refuse_access(struct presence_link *link, const char *why)
{
    unsigned n_suppressed;

    if (gt_log_is_allowed(&link->access_refused, 1, &n_suppressed))
        gt_error("device=%s receives no access lists there: the broker refuses the subscription "
                 "broker=%s:%u topic=%s/fleet/access/%zu reason=\"%s\"",
                 presence_device(link->presence), link->broker.host, link->broker.port,
                 link->presence->setup->settings->mqtt_prefix,
                 link->n_parts > 0 ? link->n_parts - 1 : 0, why);
}

bool presence_access_on_suback(struct presence_link *link, int id, unsigned n_refused,
                               const char *why)
{
    if (!link->access_id || id != link->access_id)
        return false;
    link->access_id = 0;
    if (n_refused > 0)
        link_refuse_access(link, why);
    else
        link_subscribe_parts(link);
    return true;
}

static struct presence_link *link_in_use(struct presence *presence)
{
    return presence_is_up(presence) && presence->link->is_begun ? presence->link : NULL;
}

void presence_request_access(struct presence *presence)
{
    struct presence_link *link = link_in_use(presence);

    if (link)
        link_subscribe_first(link);
}

void presence_await_access(struct presence *presence, size_t n_parts)
{
    struct presence_link *link = link_in_use(presence);

    if (!link || link->presence->setup->trust.policy != GT_POLICY_LIST)
        return;
    link->n_awaited = GT_MAX(link->n_awaited, n_parts);
    link_subscribe_parts(link);
}
