/* SPDX-License-Identifier: ISC */
/*
 * SAYING -> (it failed) WAITING -> SAYING ...; -> SAID, for as long as there may be somebody who
 * waits to hear it: after a power cut the network may take its time. Must never hold the listener
 * up.
 */
#include "farewell.h"

#include <stdio.h>

#include "gotthard/backoff.h"
#include "gotthard/clock.h"
#include "gotthard/link.h"
#include "gotthard/log.h"

enum farewell_state {
    FAREWELL_SAYING,  /* a link is on its way, or says goodbye */
    FAREWELL_WAITING, /* for the next try */
    FAREWELL_SAID,    /* to be freed */
};

struct farewell {
    struct gt_list of_list;
    struct ev_loop *loop;
    enum farewell_state state;
    struct target relay;
    char device[GT_NAME_MAX + 1];
    uint8_t client_key[GT_KEY_SIZE], rid[GT_RID_SIZE];
    char *record_at; /* owned, or NULL */
    bool was_killed;
    double give_up_at; /* by gt_clock() */
    struct gt_link *link;
    struct gt_backoff backoff;
    ev_timer due; /* never from inside the link's own callbacks */
};

static struct farewell *farewell_free(struct farewell *farewell)
{
    gt_list_unlink(&farewell->of_list);
    ev_timer_stop(farewell->loop, &farewell->due);
    gt_link_free(farewell->link);
    free(farewell->record_at);
    gt_wipe(farewell, sizeof(*farewell));
    free(farewell);
    return NULL;
}

static void farewell_enter(struct farewell *farewell, enum farewell_state state, double after)
{
    farewell->state = state;
    ev_timer_stop(farewell->loop, &farewell->due);
    ev_timer_set(&farewell->due, after, 0.);
    if (state != FAREWELL_SAYING)
        ev_timer_start(farewell->loop, &farewell->due);
}

/* The operator was told by the relay as soon as we were registered. */
static void farewell_on_session(void *userdata, const struct gt_addr *addr, uint16_t port,
                                bool is_peer_up)
{
    struct farewell *farewell = userdata;

    gt_link_bye(farewell->link, farewell->was_killed ? GT_CODE_NEW_PROCESS : GT_CODE_BYE);
}

static void farewell_on_peer(void *userdata, bool is_up, enum gt_code reason)
{
}

static void farewell_on_ticket(void *userdata, const struct gt_ticket *ticket)
{
}

static void farewell_on_stream_end(void *userdata, uint32_t stream, uint32_t attempt, unsigned code)
{
}

static void farewell_on_restarting(void *userdata, uint32_t reconnect_in_ms, uint32_t try_for_ms)
{
}

static void farewell_on_down(void *userdata, enum gt_down cause, enum gt_code code, const char *why)
{
    struct farewell *farewell = userdata;
    bool is_said =
        cause == GT_DOWN_CLOSED || cause == GT_DOWN_REFUSED || gt_clock() >= farewell->give_up_at;

    if (is_said)
        farewell_enter(farewell, FAREWELL_SAID, 0.);
    else
        farewell_enter(farewell, FAREWELL_WAITING, gt_backoff_next(&farewell->backoff));
}

/* Nobody waits for the old connection to be missed: generation 0 is a new process at any time, the
 * greatest replaces whatever there is of the old one. */
static int farewell_say(struct farewell *farewell)
{
    static const struct gt_link_events events = {
        .on_session = farewell_on_session,
        .on_peer = farewell_on_peer,
        .on_ticket = farewell_on_ticket,
        .on_stream_end = farewell_on_stream_end,
        .on_restarting = farewell_on_restarting,
        .on_down = farewell_on_down,
    };
    const struct gt_link_settings settings = {
        .host = farewell->relay.host,
        .port = farewell->relay.port,
        .role = GT_ROLE_DEVICE,
        .name = farewell->device,
        .client_key = farewell->client_key,
        .rid = farewell->rid,
        .generation = farewell->was_killed ? 0 : UINT32_MAX,
    };
    farewell->link = gt_link_free(farewell->link);
    farewell_enter(farewell, FAREWELL_SAYING, 0.);
    return gt_link_new(farewell->loop, &settings, &events, farewell, &farewell->link);
}

static void farewell_on_due(struct ev_loop *loop, ev_timer *watcher, int revents)
{
    struct farewell *farewell = watcher->data;

    if (farewell->state == FAREWELL_SAID && farewell->record_at)
        unlink(farewell->record_at);
    if (farewell->state == FAREWELL_SAID || farewell_say(farewell))
        farewell_free(farewell);
}

int farewell_new(struct ev_loop *loop, const struct farewell_settings *settings,
                 struct gt_list *list)
{
    struct farewell *farewell = calloc(1, sizeof(*farewell));
    if (!farewell)
        return -ENOMEM;
    gt_list_append(list, &farewell->of_list);
    farewell->loop = loop;
    farewell->relay = *settings->relay;
    snprintf(farewell->device, sizeof(farewell->device), "%s", settings->device);
    memcpy(farewell->client_key, settings->client_key, GT_KEY_SIZE);
    memcpy(farewell->rid, settings->rid, GT_RID_SIZE);
    farewell->record_at = settings->record_at ? strdup(settings->record_at) : NULL;
    farewell->was_killed = settings->was_killed;
    farewell->give_up_at = gt_clock() + settings->patience_ms / 1000.;
    ev_init(&farewell->due, farewell_on_due);
    farewell->due.data = farewell;
    int r = farewell_say(farewell);
    if (r)
        farewell_free(farewell);
    return r;
}

void farewell_free_all(struct gt_list *list)
{
    gt_list_for_each_safe (at, next, list)
        farewell_free(gt_list_entry(at, struct farewell, of_list));
}
