/* SPDX-License-Identifier: ISC */
/*
 * The connections of a presence; see the header. "Online" is published after the subscription is
 * granted, so that an operator who receives it can send a request at once.
 */
#include "presence-internal.h"

#include <stdio.h>
#include <time.h>

#include "gotthard/base/clock.h"
#include "gotthard/base/format.h"
#include "gotthard/base/log.h"
#include "gotthard/config/config-mention.h"
#include "gotthard/config/config-proxy.h"
#include "gotthard/mqtt/mqtt-error.h"
#include "gotthard/signaling/topic.h"

#define REPLACED_MS    1000 /* to deliver the last STATE of a connection that was replaced */
#define CLOSE_MS       3000 /* to deliver the last STATE, and DISCONNECT */
#define HINT_MAX       480
#define REPLY_EXPIRY_S 20 /* no operator waits for a reply that long */

const char *presence_device(const struct presence *presence)
{
    return presence->setup->settings->device_name;
}

bool presence_is_up(const struct presence *presence)
{
    return presence->link && gt_mqtt_is_up(presence->link->mqtt);
}

const struct credentials *presence_credentials(const struct presence *presence)
{
    return presence->link ? presence->link->credentials : presence->setup->credentials;
}

const struct gt_mqtt_url *presence_broker(const struct presence *presence)
{
    return presence->link ? &presence->link->broker : &presence->setup->broker;
}

/* Keeps the topic for the case that the broker refuses the reply. */
static void presence_remember_reply(struct presence *presence, int id, const char *topic)
{
    struct presence_reply *reply =
        &presence->replies[presence->n_replies++ % GT_ARRAY_SIZE(presence->replies)];

    reply->id = id;
    snprintf(reply->topic, sizeof(reply->topic), "%s", topic);
}

void presence_publish_reply(struct presence *presence, const char *topic, struct gt_span payload)
{
    int id;

    unsigned n_suppressed;

    int r = gt_mqtt_publish(presence->link->mqtt, topic, payload, false, REPLY_EXPIRY_S, &id);
    if (r && gt_log_is_allowed(&presence->unsent, 1, &n_suppressed))
        gt_warn_errno(r < 0 ? r : 0, "device=%s cannot publish a reply of %zu bytes topic=%s",
                      presence_device(presence), payload.n, topic);
    if (r == 0)
        presence_remember_reply(presence, id, topic);
}

/* An operator cannot repair the device's rights, and sees no answer: the line is for the owner. */
static void presence_reply_refused(struct presence *presence, int id, const char *why)
{
    const char *topic = NULL;
    unsigned n_suppressed;

    for (size_t i = 0; i < GT_ARRAY_SIZE(presence->replies); i++)
        if (presence->replies[i].id == id)
            topic = presence->replies[i].topic;
    if (topic && gt_log_is_allowed(&presence->refused, 1, &n_suppressed))
        gt_error("device=%s the broker refuses an answer topic=%s reason=\"%s\" suppressed=%u",
                 presence_device(presence), topic, why, n_suppressed);
}

void presence_publish_offline(struct presence *presence)
{
    presence->is_going_offline = true;
    presence_cancel_replacement(presence);
    if (presence_publish_state(presence, GT_STATE_OFFLINE, &presence->offline_id))
        presence->events->on_offline(presence->userdata);
}

/* --- a connection ------------------------------------------------------------------------ */

static struct presence_link *link_free(struct presence_link *link, unsigned timeout_ms)
{
    if (!link)
        return NULL;
    ev_timer_stop(link->presence->loop, &link->resubscribe);
    presence_access_reset(link);
    gt_mqtt_free_within(link->mqtt, timeout_ms);
    credentials_free(link->credentials);
    free(link);
    return NULL;
}

/* Returns true if the broker has closed @old in favor of the other one, or is about to. */
static bool is_same_place(const struct presence_link *old, const struct presence_link *link)
{
    return strcmp(old->broker.host, link->broker.host) == 0 &&
           old->broker.port == link->broker.port &&
           strcmp(request_handler_state_topic(old->request_handler),
                  request_handler_state_topic(link->request_handler)) == 0;
}

/* The replacement is up, or at another broker or under another name granted its subscription. Then
 * "offline" is published in the old place. */
static void presence_switch(struct presence *presence)
{
    struct presence_link *old = presence->link;
    int id;

    presence->is_online_kept = is_same_place(old, presence->next);
    if (!presence->is_online_kept)
        (void)presence_publish_state(presence, GT_STATE_OFFLINE, &id);
    presence->link = gt_steal(&presence->next);
    presence_state_reset(presence);
    link_free(old, REPLACED_MS); /* at once if the broker has closed it */
    presence->events->on_replaced(presence->userdata);
}

/* Returns the end of a log line about a fault of @link. */
static const char *link_effect(const struct presence_link *link)
{
    return link == link->presence->next && presence_is_up(link->presence)
               ? " result=\"the connection before the change stays in use\""
               : "";
}

/* --- the subscription of a connection ------------------------------------------------------ */

static void link_refuse_subscription(struct presence_link *link, const char *why)
{
    struct presence *presence = link->presence;
    double wait_s = presence_refusal_wait_s(link->n_refused_subscriptions++);

    gt_error(
        "device=%s receives no requests there: the broker refuses its subscription broker=%s:%u "
        "topic=%s retry=%.0fs reason=\"%s\"%-s",
        presence_device(presence), link->broker.host, link->broker.port,
        request_handler_req_topic(link->request_handler), wait_s, why, link_effect(link));
    ev_timer_set(&link->resubscribe, wait_s, 0.);
    ev_timer_start(presence->loop, &link->resubscribe);
    if (link == presence->link)
        presence_refuse(presence, "the subscription", why);
}

/* A failure here ends the connection (on_down). */
static void link_subscribe(struct presence_link *link)
{
    int r = gt_mqtt_subscribe(link->mqtt, request_handler_req_topic(link->request_handler));

    link->is_awaiting_suback = r == 0;
    if (r)
        gt_warn_errno(r, "device=%s cannot subscribe", presence_device(link->presence));
}

static void link_on_resubscribe(struct ev_loop *loop, ev_timer *watcher, int revents)
{
    link_subscribe(watcher->data);
}

static void link_on_suback(void *userdata, int id, unsigned n_refused, const char *why)
{
    struct presence_link *link = userdata;

    if (presence_access_on_suback(link, id, n_refused, why))
        return;
    if (!link->is_awaiting_suback)
        return;
    link->is_awaiting_suback = false;
    link->is_subscribed = n_refused == 0;
    if (n_refused > 0)
        link_refuse_subscription(link, why);
    else
        link->n_refused_subscriptions = 0;
}

/* The largest message follows from the broker's largest packet. */
static void link_limit_messages(const struct presence_link *link)
{
    uint32_t max = gt_mqtt_max_packet(link->mqtt);
    size_t n = max > GT_MQTT_OVERHEAD ? max - GT_MQTT_OVERHEAD : 1;

    request_handler_set_message_max(link->request_handler, max == UINT32_MAX ? 0 : n);
}

static void link_warn_without_retained(struct presence_link *link)
{
    if (gt_mqtt_has_retained(link->mqtt) || link->is_without_retained)
        return;
    link->is_without_retained = true;
    gt_warn(
        "device=%s the broker keeps no retained messages: `gotthard-cli devices` cannot list this "
        "device, `gotthard-cli status` asks it broker=%s:%u",
        presence_device(link->presence), link->broker.host, link->broker.port);
}

static void link_on_up(void *userdata)
{
    struct presence_link *link = userdata;
    struct presence *presence = link->presence;

    if (link == presence->next && is_same_place(presence->link, link))
        presence_switch(presence);
    link->is_subscribed = link->is_begun = false;
    presence_access_reset(link);
    link->outcome = NULL;
    link_subscribe(link);
}

static void link_on_subscribed(void *userdata)
{
    struct presence_link *link = userdata;
    struct presence *presence = link->presence;

    if (presence->is_going_offline || !link->is_subscribed || link->is_begun)
        return;
    link->is_begun = true;
    if (link == presence->next)
        presence_switch(presence);
    if (!presence->is_online_kept)
        presence->online_ms = gt_clock_ms();
    presence->is_online_kept = false;
    link_limit_messages(link);
    link_warn_without_retained(link);
    presence_state_begin(presence);
    presence_access_begin(link);
    presence->events->on_change(presence->userdata);
}

/* Returns true if the end of @link is probably the broker's answer to its replacement. */
static bool link_is_being_replaced(const struct presence_link *link)
{
    const struct presence *presence = link->presence;

    return link == presence->link && presence->standing != PRESENCE_PENDING && presence->next &&
           is_same_place(link, presence->next);
}

/* Writes the end of a log line with what to do, once for equal outcomes in a row. */
static const char *link_hint(struct presence_link *link, char *ret, size_t cap)
{
    const struct gt_mqtt_outcome *outcome = gt_mqtt_last_outcome(link->mqtt);
    char text[HINT_MAX];

    *ret = 0;
    if (outcome && outcome != link->outcome)
        gt_format(GT_FORMAT_LOG, ret, cap, " hint=\"%s\"",
                  gt_config_mention_all(link->presence->setup->config, outcome->hint, text,
                                        sizeof(text)));
    link->outcome = outcome;
    return ret;
}

static void link_log_down(struct presence_link *link, const char *why, unsigned retry_ms)
{
    const char *device = presence_device(link->presence);
    const struct gt_mqtt_url *broker = &link->broker;
    char hint[HINT_MAX + 16];

    link_hint(link, hint, sizeof(hint));
    if (link_is_being_replaced(link))
        gt_info("device=%s connection closed, probably in favor of its replacement broker=%s:%u "
                "retry=%ums reason=\"%s\"",
                device, broker->host, broker->port, retry_ms, why);
    else
        gt_warn("device=%s broker not reachable broker=%s:%u retry=%ums reason=\"%s\"%-s%-s",
                device, broker->host, broker->port, retry_ms, why, hint, link_effect(link));
}

static void link_on_down(void *userdata, const char *why, unsigned retry_ms)
{
    struct presence_link *link = userdata;
    struct presence *presence = link->presence;

    ev_timer_stop(presence->loop, &link->resubscribe);
    presence_access_reset(link);
    link->is_awaiting_suback = false;
    link_log_down(link, why, retry_ms);
    if (link == presence->next)
        return;
    presence_state_reset(presence);
    presence->events->on_change(presence->userdata);
    if (presence->is_going_offline)
        presence->events->on_offline(presence->userdata);
}

static void link_on_message(void *userdata, const char *topic, bool is_retained,
                            struct gt_span payload)
{
    const struct presence_link *link = userdata;
    struct presence *presence = link->presence;

    if (!presence->is_going_offline)
        presence->events->on_message(presence->userdata, topic, is_retained, payload);
}

static void link_on_published(void *userdata, int id, bool is_undelivered)
{
    const struct presence_link *link = userdata;
    struct presence *presence = link->presence;

    if (link != presence->link)
        return;
    if (!presence->is_going_offline)
        presence_state_acknowledged(presence, id);
    if (!presence->is_going_offline || id != presence->offline_id)
        return;
    presence->is_offline = true;
    presence->events->on_offline(presence->userdata);
}

static void link_on_refused(void *userdata, int id, const char *why)
{
    const struct presence_link *link = userdata;
    struct presence *presence = link->presence;

    if (link != presence->link)
        return;
    if (presence->is_going_offline && id == presence->offline_id)
        presence->events->on_offline(presence->userdata);
    else if (!presence->is_going_offline && id == presence->state_id)
        presence_state_refused(presence, why);
    else
        presence_reply_refused(presence, id, why);
}

static bool link_make_will(void *userdata, char *ret_topic, uint8_t *ret, size_t *ret_n)
{
    struct presence_link *link = userdata;
    struct request_handler *request_handler = link->request_handler;

    link->will_shift_s = presence_clock_shift_s();
    link->number = ++link->presence->n_attempts;
    if (request_handler_state(request_handler, GT_STATE_WILL, link->number, (uint64_t)time(NULL),
                              ret, ret_n) != 0)
        return false;
    snprintf(ret_topic, GT_TOPIC_MAX + 1, "%s", request_handler_state_topic(request_handler));
    return true;
}

static bool link_is_awaited(void *userdata)
{
    const struct presence *presence = ((struct presence_link *)userdata)->presence;

    return presence->events->is_awaited(presence->userdata);
}

static int link_new(struct presence *presence, struct request_handler *request_handler,
                    struct presence_link **ret)
{
    static const struct gt_mqtt_events events = {
        .on_up = link_on_up,
        .on_down = link_on_down,
        .on_suback = link_on_suback,
        .on_subscribed = link_on_subscribed,
        .on_message = link_on_message,
        .on_published = link_on_published,
        .on_refused = link_on_refused,
        .make_will = link_make_will,
        .is_awaited = link_is_awaited,
    };
    const struct setup *setup = presence->setup;
    const struct settings *s = setup->settings;
    struct gt_mqtt_settings settings = {
        .host = setup->broker.host,
        .port = setup->broker.port,
        .tls = setup->credentials->tls,
        .client_id = s->device_name,
        .username = s->mqtt_username,
        .password = s->mqtt_password,
        .keepalive_s = (unsigned)(s->mqtt_keepalive_ms / 1000),
        .version = gt_mqtt_version_of(s->mqtt_version),
        .reconnect_spread_ms = (unsigned)s->reconnect_spread_ms,
    };
    struct presence_link *link = calloc(1, sizeof(*link));
    struct gt_proxy proxy;

    if (!link)
        return -ENOMEM;
    if (gt_config_proxy(&s->mqtt_proxy, s->mqtt_proxy_password, setup->broker.host, &proxy))
        settings.proxy = &proxy;
    link->presence = presence;
    ev_timer_init(&link->resubscribe, link_on_resubscribe, 0., 0.);
    link->resubscribe.data = link;
    presence_access_init(link);
    link->request_handler = request_handler;
    link->broker = setup->broker;
    link->credentials = credentials_ref(setup->credentials);
    int r = gt_mqtt_new(presence->loop, &settings, &events, link, &link->mqtt);
    gt_wipe(&proxy, sizeof(proxy));
    if (r)
        link_free(link, 0);
    else
        *ret = link;
    return r;
}

/* --- for the owner ----------------------------------------------------------------------- */

void presence_init(struct presence *presence, struct ev_loop *loop,
                   const struct presence_events *events, void *userdata)
{
    *presence = (struct presence){.loop = loop, .events = events, .userdata = userdata};
    presence_state_init(presence);
}

int presence_open(struct presence *presence, const struct setup *setup,
                  struct request_handler *request_handler)
{
    presence->setup = setup;
    return link_new(presence, request_handler, &presence->link);
}

void presence_set(struct presence *presence, const struct setup *setup)
{
    presence->setup = setup;
    presence_changed(presence);
}

void presence_set_request_handler(struct presence *presence,
                                  struct request_handler *request_handler)
{
    presence->link->request_handler = request_handler;
    link_limit_messages(presence->link);
}

int presence_replace(struct presence *presence, struct request_handler *request_handler)
{
    presence_cancel_replacement(presence);
    return link_new(presence, request_handler, &presence->next);
}

void presence_cancel_replacement(struct presence *presence)
{
    presence->next = link_free(presence->next, 0);
}

/* A broker that has not acknowledged "offline" in time is not waited for any longer: it has the
 * will. */
void presence_close(struct presence *presence)
{
    int id;

    ev_timer_stop(presence->loop, &presence->state_due);
    presence_cancel_replacement(presence);
    if (presence->link && !presence->is_going_offline)
        (void)presence_publish_state(presence, GT_STATE_OFFLINE, &id);
    bool is_lost = presence->is_going_offline && !presence->is_offline;
    presence->link = link_free(presence->link, is_lost ? 0 : CLOSE_MS);
}
