/* SPDX-License-Identifier: ISC */
/*
 * Being online, and saying so; see the header. "Online" is published when the subscription is
 * granted, so that whoever reads it may ask at once.
 */
#include "presence.h"

#include <stdio.h>
#include <time.h>

#include "gotthard/log.h"

#define STATE_DELAY_S   0.2
#define ANSWER_EXPIRY_S 20 /* an answer nobody fetched is of no use later */

static const char *presence_device(const struct presence *presence)
{
    return presence->setup->settings->device_name;
}

/* The publish id, or 0 when there is no broker to tell. */
static int presence_publish(struct presence *presence, bool is_online)
{
    uint8_t payload[GT_MESSAGE_MAX];
    size_t n;
    int id = 0;

    if (!presence_is_up(presence))
        return 0;
    int r = inbox_state(presence->inbox, is_online,
                        is_online ? presence->online_since : (uint64_t)time(NULL), payload, &n);
    if (r == 0)
        r = gt_mqtt_publish(presence->mqtt, inbox_state_topic(presence->inbox), gt_span(payload, n),
                            true, 0, &id);
    if (r && r != -ENOTCONN)
        gt_error_errno(r < 0 ? r : 0, "device=%s the presence could not be published",
                       presence_device(presence));
    return r ? 0 : id;
}

static void presence_on_state_due(struct ev_loop *loop, ev_timer *watcher, int revents)
{
    struct presence *presence = watcher->data;

    if (!presence->is_leaving)
        (void)presence_publish(presence, true);
}

void presence_changed(struct presence *presence)
{
    if (ev_is_active(&presence->state_due))
        return;
    ev_timer_set(&presence->state_due, STATE_DELAY_S, 0.);
    ev_timer_start(presence->loop, &presence->state_due);
}

bool presence_is_up(const struct presence *presence)
{
    return presence->mqtt && gt_mqtt_is_up(presence->mqtt);
}

void presence_answer(struct presence *presence, const char *topic, struct gt_span payload)
{
    int id;

    int r = gt_mqtt_publish(presence->mqtt, topic, payload, false, ANSWER_EXPIRY_S, &id);
    if (r)
        gt_warn_errno(r < 0 ? r : 0, "device=%s an answer could not be published",
                      presence_device(presence));
}

void presence_say_goodbye(struct presence *presence)
{
    presence->is_leaving = true;
    presence->goodbye = presence_publish(presence, false);
    if (!presence->goodbye)
        presence->events->on_gone(presence->userdata);
}

static void presence_on_up(void *userdata)
{
    struct presence *presence = userdata;

    int r = gt_mqtt_subscribe(presence->mqtt, inbox_req_topic(presence->inbox));
    if (r)
        gt_warn_errno(r < 0 ? r : 0, "device=%s the broker takes no subscription",
                      presence_device(presence));
}

static void presence_on_subscribed(void *userdata)
{
    struct presence *presence = userdata;

    if (presence->is_leaving)
        return;
    presence->online_since = (uint64_t)time(NULL);
    (void)presence_publish(presence, true);
    gt_info("device=%s online: broker=%s:%u", presence_device(presence),
            presence->setup->broker.host, presence->setup->broker.port);
    presence->events->on_change(presence->userdata);
}

static void presence_on_down(void *userdata, const char *why, unsigned retry_ms)
{
    struct presence *presence = userdata;
    char escaped[256];

    gt_warn("device=%s broker not reachable: broker=%s:%u retry=%ums reason=\"%s\"",
            presence_device(presence), presence->setup->broker.host, presence->setup->broker.port,
            retry_ms, gt_text_escape(gt_span_text(why), escaped, sizeof(escaped)));
    presence->events->on_change(presence->userdata);
    if (presence->is_leaving)
        presence->events->on_gone(presence->userdata);
}

static void presence_on_message(void *userdata, const char *topic, bool is_retained,
                                struct gt_span payload)
{
    struct presence *presence = userdata;

    if (!presence->is_leaving)
        presence->events->on_message(presence->userdata, topic, is_retained, payload);
}

static void presence_on_published(void *userdata, int id, bool is_unheard)
{
    struct presence *presence = userdata;

    if (presence->is_leaving && id == presence->goodbye)
        presence->events->on_gone(presence->userdata);
}

static bool presence_make_will(void *userdata, char *ret_topic, uint8_t *ret, size_t *ret_n)
{
    struct presence *presence = userdata;

    if (inbox_state(presence->inbox, false, (uint64_t)time(NULL), ret, ret_n) != 0)
        return false;
    snprintf(ret_topic, GT_TOPIC_MAX + 1, "%s", inbox_state_topic(presence->inbox));
    return true;
}

void presence_init(struct presence *presence, struct ev_loop *loop,
                   const struct presence_events *events, void *userdata)
{
    *presence = (struct presence){.loop = loop, .events = events, .userdata = userdata};
    ev_timer_init(&presence->state_due, presence_on_state_due, 0., 0.);
    presence->state_due.data = presence;
}

int presence_open(struct presence *presence, const struct setup *setup, struct inbox *inbox)
{
    static const struct gt_mqtt_events events = {
        .on_up = presence_on_up,
        .on_down = presence_on_down,
        .on_subscribed = presence_on_subscribed,
        .on_message = presence_on_message,
        .on_published = presence_on_published,
        .make_will = presence_make_will,
    };
    const struct credentials *credentials = &setup->credentials;
    const struct settings *s = setup->settings;
    struct gt_mqtt_settings settings = {
        .host = setup->broker.host,
        .port = setup->broker.port,
        .is_tls = setup->broker.is_tls,
        .ca_file = credentials->ca_file,
        .cert_file = setup->broker.is_tls ? credentials->cert_file : NULL,
        .key_file = setup->broker.is_tls ? credentials->key_file : NULL,
        .alpn = setup->broker.alpn,
        .client_id = s->device_name,
        .username = s->mqtt_username,
        .password = s->mqtt_password,
        .keepalive_s = (unsigned)(s->mqtt_keepalive_ms / 1000),
    };
    presence->setup = setup;
    presence->inbox = inbox;
    return gt_mqtt_new(presence->loop, &settings, &events, presence, &presence->mqtt);
}

void presence_set(struct presence *presence, const struct setup *setup)
{
    presence->setup = setup;
    presence_changed(presence);
}

void presence_close(struct presence *presence)
{
    ev_timer_stop(presence->loop, &presence->state_due);
    if (presence->mqtt && !presence->is_leaving)
        (void)presence_publish(presence, false);
    presence->mqtt = gt_mqtt_free(presence->mqtt);
}
