/* SPDX-License-Identifier: ISC */
/*
 * Two timers: the next PING, and the timeout. A relay that answers must never time out sooner than
 * after three intervals. A probe must never be satisfied by bytes that were in flight before it.
 */
#include "gotthard/net/heartbeat.h"

#include "gotthard/base/log.h"
#include "gotthard/crypto/crypto.h"

#define INTERVAL_MS       15000
#define INTERVAL_MIN_MS   500
#define TIMEOUT_INTERVALS 3
#define PROBE_S           5.

void gt_heartbeat_set_interval(struct gt_heartbeat *heartbeat, uint32_t interval_ms)
{
    uint32_t ms =
        interval_ms == 0 ? INTERVAL_MS : GT_MIN(GT_MAX(interval_ms, INTERVAL_MIN_MS), INTERVAL_MS);

    heartbeat->interval_s = ms / 1000.;
}

/* The interval varies by 20 % at random: many connections must not send at the same time. */
static void heartbeat_schedule_ping(struct gt_heartbeat *heartbeat)
{
    uint16_t random = 0;

    if (gt_random(&random, sizeof(random)) != 0)
        random = 0;
    heartbeat->next_ping.repeat = heartbeat->interval_s * (.8 + .4 * random / UINT16_MAX);
    ev_timer_again(heartbeat->loop, &heartbeat->next_ping);
}

static void heartbeat_set_timeout(struct gt_heartbeat *heartbeat, ev_tstamp seconds)
{
    heartbeat->timeout.repeat = seconds;
    ev_timer_again(heartbeat->loop, &heartbeat->timeout);
}

static void heartbeat_send_ping(struct gt_heartbeat *heartbeat)
{
    heartbeat->events.on_heartbeat(heartbeat->userdata, ++heartbeat->n_pings);
}

static void heartbeat_on_next_ping(struct ev_loop *loop, ev_timer *w, int revents)
{
    struct gt_heartbeat *heartbeat = w->data;

    heartbeat_schedule_ping(heartbeat);
    heartbeat_send_ping(heartbeat);
}

static void heartbeat_on_timeout(struct ev_loop *loop, ev_timer *w, int revents)
{
    struct gt_heartbeat *heartbeat = w->data;

    heartbeat->events.on_timeout(heartbeat->userdata);
}

void gt_heartbeat_received(struct gt_heartbeat *heartbeat)
{
    if (heartbeat->probe == 0)
        heartbeat_set_timeout(heartbeat, TIMEOUT_INTERVALS * heartbeat->interval_s);
}

void gt_heartbeat_received_pong(struct gt_heartbeat *heartbeat, uint64_t ping)
{
    if (heartbeat->probe == 0 || ping < heartbeat->probe)
        return;
    gt_debug("control=%s probe answered", heartbeat->identity);
    heartbeat->probe = 0;
    gt_heartbeat_received(heartbeat);
}

void gt_heartbeat_ping(struct gt_heartbeat *heartbeat)
{
    heartbeat_send_ping(heartbeat);
}

void gt_heartbeat_probe(struct gt_heartbeat *heartbeat)
{
    if (heartbeat->probe != 0)
        return;
    gt_debug("control=%s probe sent", heartbeat->identity);
    heartbeat_send_ping(heartbeat);
    heartbeat->probe = heartbeat->n_pings;
    heartbeat_set_timeout(
        heartbeat, GT_MIN(ev_timer_remaining(heartbeat->loop, &heartbeat->timeout), PROBE_S));
}

void gt_heartbeat_start(struct gt_heartbeat *heartbeat)
{
    heartbeat_schedule_ping(heartbeat);
    gt_heartbeat_received(heartbeat);
}

void gt_heartbeat_stop(struct gt_heartbeat *heartbeat)
{
    ev_timer_stop(heartbeat->loop, &heartbeat->next_ping);
    ev_timer_stop(heartbeat->loop, &heartbeat->timeout);
}

void gt_heartbeat_init(struct gt_heartbeat *heartbeat, struct ev_loop *loop, const char *identity,
                       const struct gt_heartbeat_events *events, void *userdata)
{
    *heartbeat = (struct gt_heartbeat){
        .loop = loop, .events = *events, .userdata = userdata, .identity = identity};
    gt_heartbeat_set_interval(heartbeat, 0);
    ev_init(&heartbeat->next_ping, heartbeat_on_next_ping);
    ev_init(&heartbeat->timeout, heartbeat_on_timeout);
    heartbeat->next_ping.data = heartbeat->timeout.data = heartbeat;
}
