/* SPDX-License-Identifier: ISC */
/*
 * One timer opens missing spares, always from a loop iteration of its own, so that the tickets of
 * local connections that arrive together are requested before those of spares. Must never fill the
 * session with spares, nor keep requesting them from a peer that rejects them.
 */
#include "gotthard/tunnel/spares.h"

#include "gotthard/base/clock.h"
#include "gotthard/base/log.h"

#define ROOM       4     /* streams left for local connections */
#define REJECTED_S 300.0 /* from a rejection to the next attempt */

static void spares_arm(struct gt_spares *spares, double after)
{
    after = GT_MAX(after, spares->rejected_until - gt_clock());
    ev_timer_stop(spares->loop, &spares->due);
    ev_timer_set(&spares->due, GT_MAX(after, 0.), 0);
    ev_timer_start(spares->loop, &spares->due);
}

static bool is_proof_wanted(const struct gt_spares *spares)
{
    return spares->is_proof_due && gt_streams_is_empty(spares->streams);
}

/* Returns the number to keep now. */
static unsigned spares_n_wanted(const struct gt_spares *spares)
{
    return GT_MAX(spares->n_wanted, (unsigned)is_proof_wanted(spares));
}

static void spares_on_due(struct ev_loop *loop, ev_timer *timer, int revents)
{
    struct gt_spares *spares = timer->data;
    unsigned n = gt_streams_n_spares(spares->streams);

    for (; n < spares_n_wanted(spares) &&
           (is_proof_wanted(spares) || gt_streams_has_room(spares->streams, ROOM));
         n++)
        if (gt_streams_open_spare(spares->streams)) {
            spares_arm(spares, gt_backoff_next(&spares->backoff));
            return;
        }
}

/* Opens missing spares in the next loop iteration, unless a delay is running. */
static void spares_refill(struct gt_spares *spares)
{
    if (spares_n_wanted(spares) > 0 && !spares->streams->is_paused && !ev_is_active(&spares->due))
        spares_arm(spares, 0);
}

/* Closes the spares beyond the minimum. */
static void spares_on_idle(struct ev_loop *loop, ev_timer *timer, int revents)
{
    struct gt_spares *spares = timer->data;

    spares->n_wanted = spares->n_least;
    ev_timer_stop(loop, timer);
    for (unsigned n = gt_streams_n_spares(spares->streams); n > spares->n_wanted; n--)
        gt_streams_drop_spare(spares->streams);
}

/* A local connection arrived. If it follows another soon and no spare is ready, more are kept from
 * now on. */
static void spares_adapt(struct gt_spares *spares)
{
    double now = gt_clock();
    bool is_soon =
        spares->last_connection_at > 0 && now - spares->last_connection_at < spares->idle_s;

    spares->last_connection_at = now;
    if (is_soon && !spares->streams->is_paused && gt_streams_n_ready(spares->streams) == 0)
        spares->n_wanted = GT_MIN(2 * spares->n_wanted, (unsigned)GT_SPARES_MAX);
    if (spares->n_wanted == spares->n_least)
        return;
    spares->idle.repeat = spares->idle_s;
    ev_timer_again(spares->loop, &spares->idle);
}

void gt_spares_init(struct gt_spares *spares, struct ev_loop *loop, struct gt_streams *streams,
                    unsigned n_least, double idle_s)
{
    n_least = GT_MIN(n_least, (unsigned)GT_SPARES_MAX);
    *spares = (struct gt_spares){
        .loop = loop,
        .streams = streams,
        .n_least = n_least,
        .n_wanted = n_least,
        .idle_s = idle_s > 0 ? idle_s : GT_SPARES_IDLE,
    };
    ev_timer_init(&spares->due, spares_on_due, 0, 0);
    ev_timer_init(&spares->idle, spares_on_idle, 0, 0);
    spares->due.data = spares->idle.data = spares;
}

void gt_spares_deinit(struct gt_spares *spares)
{
    ev_timer_stop(spares->loop, &spares->due);
    ev_timer_stop(spares->loop, &spares->idle);
}

void gt_spares_require_proof(struct gt_spares *spares)
{
    spares->is_proof_due = true;
}

void gt_spares_on_proof(struct gt_spares *spares)
{
    spares->is_proof_due = false;
    /* One that is being closed still counts, so where there is little room it waits to be bound. */
    if (gt_streams_n_spares(spares->streams) > spares->n_wanted &&
        gt_streams_has_room(spares->streams, ROOM - 1))
        gt_streams_drop_spare(spares->streams);
}

void gt_spares_start(struct gt_spares *spares)
{
    spares->backoff = (struct gt_backoff){0};
    ev_timer_stop(spares->loop, &spares->due);
    spares_refill(spares);
}

void gt_spares_pause(struct gt_spares *spares)
{
    ev_timer_stop(spares->loop, &spares->due);
}

int gt_spares_open(struct gt_spares *spares, struct gt_endpoint_fds local, const char *service)
{
    int r = 0;

    spares_adapt(spares);
    if (!gt_streams_bind(spares->streams, local, service))
        r = gt_streams_open(spares->streams, local, service);
    spares_refill(spares);
    return r;
}

void gt_spares_on_room(struct gt_spares *spares)
{
    spares_refill(spares);
}

void gt_spares_on_end(struct gt_spares *spares, enum gt_rst code)
{
    if (spares_n_wanted(spares) == 0 || spares->streams->is_paused || code == GT_RST_CLOSED)
        return; /* GT_RST_CLOSED: dropped on purpose, or the end of the tunnel */
    if (code != GT_RST_LOST && code != GT_RST_EXPIRED) {
        gt_debug("spare rejected reason=\"%s\"", gt_rst_text(code));
        spares->rejected_until = gt_clock() + REJECTED_S;
        spares_arm(spares, REJECTED_S);
    }
    if (!ev_is_active(&spares->due)) /* several losses at once count as one */
        spares_arm(spares, gt_backoff_next(&spares->backoff));
}
