/* SPDX-License-Identifier: ISC */
/*
 * Presence at the broker; see the header. "Online" is published after the subscription is granted,
 * so that an operator who receives it can send a request at once.
 */
#include "presence.h"

#include <stdio.h>
#include <time.h>

#include "gotthard/base/clock.h"
#include "gotthard/base/log.h"

#define CLOCK_JUMP_S   2    /* of the wall clock; a smaller one is of no interest to people */
#define WILL_JUMP_S    60   /* is worth another connection */
#define REPLACED_MS    1000 /* to deliver the last STATE of a connection that was replaced */
#define CLOSE_MS       3000 /* to deliver the last STATE, and DISCONNECT */
#define STATE_DELAY_S  0.2
#define STATE_RETRY_S  1.
#define REPLY_EXPIRY_S 20 /* no operator waits for a reply that long */

struct presence_link {
    struct presence *presence;
    struct gt_mqtt *mqtt;                    /* owned */
    struct credentials *credentials;         /* owned reference */
    struct request_handler *request_handler; /* keeps; for its topics and will */
    struct gt_mqtt_url broker;
    int64_t will_shift_s; /* as published_shift_s, of the last will */
};

/* The wall clock minus the one that never jumps: a device often learns the time after it is online.
 */
static int64_t clock_shift_s(void)
{
    return (int64_t)time(NULL) - (int64_t)gt_clock();
}

/* Small differences are left alone, so that the time in STATE stays the same. */
static void presence_update_shift(struct presence *presence)
{
    int64_t shift_s = clock_shift_s();

    if (llabs(shift_s - presence->published_shift_s) >= CLOCK_JUMP_S)
        presence->published_shift_s = shift_s;
}

static const char *presence_device(const struct presence *presence)
{
    return presence->setup->settings->device_name;
}

/* Returns 0, -ENOTCONN, or the error, which is logged. */
static int presence_publish_state(struct presence *presence, bool is_online, int *ret_id)
{
    uint8_t payload[GT_MESSAGE_MAX];
    size_t n;

    if (!presence_is_up(presence))
        return -ENOTCONN;
    struct request_handler *request_handler = presence->link->request_handler;
    presence_update_shift(presence);
    int64_t since = (int64_t)(presence->online_ms / 1000) + presence->published_shift_s;
    int r = request_handler_state(
        request_handler, is_online,
        is_online ? (uint64_t)GT_MAX(since, INT64_C(0)) : (uint64_t)time(NULL), payload, &n);
    if (r == 0)
        r = gt_mqtt_publish(presence->link->mqtt, request_handler_state_topic(request_handler),
                            gt_span(payload, n), true, 0, ret_id);
    if (r && r != -ENOTCONN)
        gt_error_errno(r < 0 ? r : 0, "device=%s cannot publish STATE", presence_device(presence));
    return r;
}

static void presence_schedule_state(struct presence *presence, double delay_s)
{
    if (ev_is_active(&presence->state_due))
        return;
    ev_timer_set(&presence->state_due, delay_s, 0.);
    ev_timer_start(presence->loop, &presence->state_due);
}

/* Until an "online" is published the device looks offline, so a failure is temporary, unless the
 * broker does not accept the message. */
static void presence_publish_online(struct presence *presence)
{
    int id;
    int r = presence_publish_state(presence, true, &id);

    if (r && r != -ENOTCONN && r != -EOPNOTSUPP)
        presence_schedule_state(presence, STATE_RETRY_S);
}

static void presence_on_state_due(struct ev_loop *loop, ev_timer *watcher, int revents)
{
    struct presence *presence = watcher->data;

    if (!presence->is_going_offline)
        presence_publish_online(presence);
}

void presence_changed(struct presence *presence)
{
    presence_schedule_state(presence, STATE_DELAY_S);
}

bool presence_check_clock(struct presence *presence)
{
    int64_t shift_s = clock_shift_s();

    if (!presence_is_up(presence) || presence->is_going_offline)
        return false;
    if (llabs(shift_s - presence->published_shift_s) >= CLOCK_JUMP_S)
        presence_changed(presence);
    return !presence->next && llabs(shift_s - presence->link->will_shift_s) >= WILL_JUMP_S;
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

void presence_publish_reply(struct presence *presence, const char *topic, struct gt_span payload)
{
    int id;

    int r = gt_mqtt_publish(presence->link->mqtt, topic, payload, false, REPLY_EXPIRY_S, &id);
    if (r)
        gt_warn_errno(r < 0 ? r : 0, "device=%s cannot publish a reply", presence_device(presence));
}

void presence_publish_offline(struct presence *presence)
{
    presence->is_going_offline = true;
    presence_cancel_replacement(presence);
    if (presence_publish_state(presence, false, &presence->offline_id))
        presence->events->on_offline(presence->userdata);
}

/* --- a connection ------------------------------------------------------------------------ */

static struct presence_link *link_free(struct presence_link *link, unsigned timeout_ms)
{
    if (!link)
        return NULL;
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
        (void)presence_publish_state(presence, false, &id);
    presence->link = gt_steal(&presence->next);
    link_free(old, REPLACED_MS); /* at once if the broker has closed it */
    presence->events->on_replaced(presence->userdata);
}

static void link_on_up(void *userdata)
{
    struct presence_link *link = userdata;
    struct presence *presence = link->presence;

    if (link == presence->next && is_same_place(presence->link, link))
        presence_switch(presence);
    int r = gt_mqtt_subscribe(link->mqtt, request_handler_req_topic(link->request_handler));
    if (r)
        gt_warn_errno(r < 0 ? r : 0, "device=%s cannot subscribe", presence_device(presence));
}

static void link_on_subscribed(void *userdata)
{
    const struct presence_link *link = userdata;
    struct presence *presence = link->presence;

    if (presence->is_going_offline)
        return;
    if (link == presence->next)
        presence_switch(presence);
    if (!presence->is_online_kept)
        presence->online_ms = gt_clock_ms();
    presence->is_online_kept = false;
    presence_publish_online(presence);
    gt_info("device=%s online broker=%s:%u", presence_device(presence), link->broker.host,
            link->broker.port);
    presence->events->on_change(presence->userdata);
}

static void link_on_down(void *userdata, const char *why, unsigned retry_ms)
{
    const struct presence_link *link = userdata;
    struct presence *presence = link->presence;

    gt_warn("device=%s broker not reachable broker=%s:%u retry=%ums reason=\"%s\"%-s",
            presence_device(presence), link->broker.host, link->broker.port, retry_ms, why,
            link == presence->next && presence_is_up(presence)
                ? " result=\"the connection before the change stays in use\""
                : "");
    if (link == presence->next)
        return;
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

    if (!presence->is_going_offline || id != presence->offline_id)
        return;
    presence->is_offline = true;
    presence->events->on_offline(presence->userdata);
}

static bool link_make_will(void *userdata, char *ret_topic, uint8_t *ret, size_t *ret_n)
{
    struct presence_link *link = userdata;
    struct request_handler *request_handler = link->request_handler;

    link->will_shift_s = clock_shift_s();
    if (request_handler_state(request_handler, false, (uint64_t)time(NULL), ret, ret_n) != 0)
        return false;
    snprintf(ret_topic, GT_TOPIC_MAX + 1, "%s", request_handler_state_topic(request_handler));
    return true;
}

static int link_new(struct presence *presence, struct request_handler *request_handler,
                    struct presence_link **ret)
{
    static const struct gt_mqtt_events events = {
        .on_up = link_on_up,
        .on_down = link_on_down,
        .on_subscribed = link_on_subscribed,
        .on_message = link_on_message,
        .on_published = link_on_published,
        .make_will = link_make_will,
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
    };
    struct presence_link *link = calloc(1, sizeof(*link));

    if (!link)
        return -ENOMEM;
    link->presence = presence;
    link->request_handler = request_handler;
    link->broker = setup->broker;
    link->credentials = credentials_ref(setup->credentials);
    int r = gt_mqtt_new(presence->loop, &settings, &events, link, &link->mqtt);
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
    ev_timer_init(&presence->state_due, presence_on_state_due, 0., 0.);
    presence->state_due.data = presence;
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
        (void)presence_publish_state(presence, false, &id);
    bool is_lost = presence->is_going_offline && !presence->is_offline;
    presence->link = link_free(presence->link, is_lost ? 0 : CLOSE_MS);
}
