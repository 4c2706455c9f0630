/* SPDX-License-Identifier: ISC */
/*
 * The STATE message of a device. Until the broker has acknowledged an "online" the device looks
 * offline, so that every failure leads to another attempt, and the device counts as online only
 * from the acknowledgement on. STATE is published again after a while: the broker may publish the
 * will of an earlier connection after the "online" of this one, without notice.
 */
#include <stdio.h>
#include <time.h>

#include "gotthard/base/clock.h"
#include "gotthard/base/log.h"
#include "gotthard/net/backoff.h"
#include "presence-internal.h"

#define CLOCK_JUMP_S  2  /* of the wall clock; a smaller one is of no interest to people */
#define WILL_JUMP_S   60 /* is worth another connection */
#define STATE_DELAY_S 0.2
#define STATE_RETRY_S 1. /* without memory */

/* After a refusal: doubled from the first to the second, and up to a quarter longer. */
#define REFUSED_MIN_S 5.
#define REFUSED_MAX_S 300.
#define ACKNOWLEDGE_S 30. /* until a missing acknowledgement is a refusal */
#define SILENCES_MAX  2   /* missing acknowledgements in a row */

/* The first publication again comes this long after the connection was established, and the others
 * after each other, each with a random part. */
#define REFRESH_FIRST_S  60.
#define REFRESH_S        2700.
#define REFRESH_SPREAD_S 1800.

int64_t presence_clock_shift_s(void)
{
    return (int64_t)time(NULL) - (int64_t)gt_clock();
}

/* Small differences are left alone, so that the time in STATE stays the same. */
static void presence_update_shift(struct presence *presence)
{
    int64_t shift_s = presence_clock_shift_s();

    if (llabs(shift_s - presence->published_shift_s) >= CLOCK_JUMP_S)
        presence->published_shift_s = shift_s;
}

int presence_publish_state(struct presence *presence, enum gt_state_kind kind, int *ret_id)
{
    const struct presence_link *link = presence->link;
    uint8_t payload[GT_MESSAGE_MAX];
    size_t n;

    if (!presence_is_up(presence))
        return -ENOTCONN;
    presence_update_shift(presence);
    int64_t online_s = (int64_t)(presence->online_ms / 1000) + presence->published_shift_s;
    uint64_t since =
        kind == GT_STATE_ONLINE ? (uint64_t)GT_MAX(online_s, INT64_C(0)) : (uint64_t)time(NULL);
    int r = request_handler_state(link->request_handler, kind, link->number, since, payload, &n);
    if (r == 0)
        r = gt_mqtt_publish(link->mqtt, request_handler_state_topic(link->request_handler),
                            gt_span(payload, n), gt_mqtt_has_retained(link->mqtt), 0, ret_id);
    if (r < 0 && r != -ENOTCONN && r != -EOPNOTSUPP)
        gt_error_errno(r, "device=%s cannot publish STATE", presence_device(presence));
    return r;
}

static void presence_schedule_state(struct presence *presence, double delay_s)
{
    if (ev_is_active(&presence->state_due))
        return;
    ev_timer_set(&presence->state_due, delay_s, 0.);
    ev_timer_start(presence->loop, &presence->state_due);
}

double presence_refusal_wait_s(unsigned n)
{
    double wait_s = REFUSED_MIN_S * (double)(1u << GT_MIN(n, 16u));

    return GT_MIN(wait_s, REFUSED_MAX_S) * (1. + gt_backoff_spread(0.25));
}

void presence_refuse(struct presence *presence, const char *what, const char *why)
{
    char before[sizeof(presence->refusal)];
    bool is_news = presence->standing != PRESENCE_REFUSED;

    memcpy(before, presence->refusal, sizeof(before));
    presence->standing = PRESENCE_REFUSED;
    snprintf(presence->refusal, sizeof(presence->refusal), "%s (%s)", what, why);
    if (is_news || strcmp(before, presence->refusal) != 0)
        presence->events->on_change(presence->userdata);
}

/* Schedules the next attempt. */
void presence_state_refused(struct presence *presence, const char *why)
{
    double delay_s = presence_refusal_wait_s(presence->n_refusals++);

    presence->state_id = 0;
    gt_error("device=%s is shown as offline: the broker refuses its STATE topic=%s "
             "retry=%.0fs reason=\"%s\"",
             presence_device(presence),
             request_handler_state_topic(presence->link->request_handler), delay_s, why);
    presence_schedule_state(presence, delay_s);
    presence_refuse(presence, "STATE", why);
}

static void presence_publish_online(struct presence *presence)
{
    if (presence->link && !presence->link->is_subscribed)
        return; /* published after the subscription */
    int r = presence_publish_state(presence, GT_STATE_ONLINE, &presence->state_id);

    presence->published_at = gt_clock();
    if (r == -EOPNOTSUPP || r > 0)
        presence_state_refused(presence, "it does not accept messages of this size, of QoS 1, or "
                                         "retained ones");
    else if (r && r != -ENOTCONN)
        presence_schedule_state(presence, STATE_RETRY_S);
}

static void presence_on_state_due(struct ev_loop *loop, ev_timer *watcher, int revents)
{
    struct presence *presence = watcher->data;

    if (!presence->is_going_offline)
        presence_publish_online(presence);
}

void presence_state_init(struct presence *presence)
{
    ev_timer_init(&presence->state_due, presence_on_state_due, 0., 0.);
    presence->state_due.data = presence;
}

void presence_state_reset(struct presence *presence)
{
    presence->standing = PRESENCE_PENDING;
    presence->state_id = 0;
    memset(presence->replies, 0, sizeof(presence->replies)); /* ids start again */
}

void presence_state_begin(struct presence *presence)
{
    presence_state_reset(presence);
    presence->refresh_at = gt_clock() + REFRESH_FIRST_S + gt_backoff_spread(REFRESH_FIRST_S);
    ev_timer_stop(presence->loop, &presence->state_due);
    presence_publish_online(presence);
}

void presence_state_acknowledged(struct presence *presence, int id)
{
    const struct gt_mqtt_url *broker = presence_broker(presence);

    if (id != presence->state_id)
        return;
    presence->state_id = 0;
    presence->n_refusals = presence->n_silences = 0;
    if (presence->standing == PRESENCE_ONLINE)
        return;
    presence->standing = PRESENCE_ONLINE;
    gt_info("device=%s online broker=%s:%u", presence_device(presence), broker->host, broker->port);
    presence->events->on_change(presence->userdata);
}

void presence_changed(struct presence *presence)
{
    presence_schedule_state(presence, STATE_DELAY_S);
}

/* A jump of the wall clock: STATE contains a time of that clock. */
static bool presence_has_other_clock(const struct presence *presence)
{
    return llabs(presence_clock_shift_s() - presence->published_shift_s) >= CLOCK_JUMP_S;
}

static bool presence_is_refresh_due(const struct presence *presence, double now)
{
    return presence->refresh_at > 0 && now >= presence->refresh_at;
}

static void presence_check_acknowledgement(struct presence *presence, double now)
{
    if (!presence->state_id || now < presence->published_at + ACKNOWLEDGE_S)
        return;
    presence->n_silences++;
    presence_state_refused(presence, "no acknowledgement");
}

static const char *presence_reason_to_replace(struct presence *presence)
{
    int64_t will_error_s = presence_clock_shift_s() - presence->link->will_shift_s;

    if (presence->next)
        return NULL;
    if (presence->n_silences >= SILENCES_MAX) {
        presence->n_silences = 0;
        return "the broker acknowledges nothing";
    }
    return llabs(will_error_s) >= WILL_JUMP_S ? "the wall clock has jumped" : NULL;
}

const char *presence_tick(struct presence *presence)
{
    double now = gt_clock();
    bool is_refresh_due = presence_is_refresh_due(presence, now);

    if (!presence_is_up(presence) || presence->is_going_offline)
        return NULL;
    presence_check_acknowledgement(presence, now);
    if (presence_has_other_clock(presence) || is_refresh_due)
        presence_changed(presence);
    if (is_refresh_due) {
        presence->refresh_at = now + REFRESH_S + gt_backoff_spread(REFRESH_SPREAD_S);
        presence_request_access(presence); /* a subscription may work later than it was granted */
    }
    return presence_reason_to_replace(presence);
}
