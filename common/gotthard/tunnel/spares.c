/* SPDX-License-Identifier: ISC */
/*
 * One timer opens what is missing, always from a turn of its own, so that local connections that
 * come in one turn ask for their tickets before their spares do. Must never be what fills the
 * session, nor ask on and on whom it was refused by.
 */
#include "gotthard/spares.h"

#include "gotthard/clock.h"
#include "gotthard/log.h"

#define ROOM      4     /* streams that stay free for local connections */
#define REFUSED_S 300.0 /* until one who wanted no spare is offered another */

static void spares_arm(struct gt_spares *spares, double after)
{
    after = GT_MAX(after, spares->refused_until - gt_clock());
    ev_timer_stop(spares->loop, &spares->due);
    ev_timer_set(&spares->due, GT_MAX(after, 0.), 0);
    ev_timer_start(spares->loop, &spares->due);
}

static void spares_on_due(struct ev_loop *loop, ev_timer *timer, int revents)
{
    struct gt_spares *spares = timer->data;
    unsigned n = gt_streams_n_spares(spares->streams);
    for (; n < spares->n_wanted && gt_streams_has_room(spares->streams, ROOM); n++)
        if (gt_streams_open_spare(spares->streams)) {
            spares_arm(spares, gt_backoff_next(&spares->backoff));
            return;
        }
}

/* At once, unless something is waited for. */
static void spares_refill(struct gt_spares *spares)
{
    if (spares->n_wanted > 0 && !spares->streams->is_held && !ev_is_active(&spares->due))
        spares_arm(spares, 0);
}

/* Those that were for more than come now go. */
static void spares_on_calm(struct ev_loop *loop, ev_timer *timer, int revents)
{
    struct gt_spares *spares = timer->data;
    spares->n_wanted = spares->n_least;
    ev_timer_stop(loop, timer);
    for (unsigned n = gt_streams_n_spares(spares->streams); n > spares->n_wanted; n--)
        gt_streams_drop_spare(spares->streams);
}

/* Somebody comes. If it was the one before him who took the last that was ready, more were better.
 */
static void spares_adapt(struct gt_spares *spares)
{
    double now = gt_clock();
    bool is_soon = spares->came > 0 && now - spares->came < spares->calm_s;
    spares->came = now;
    if (is_soon && !spares->streams->is_held && gt_streams_n_ready(spares->streams) == 0)
        spares->n_wanted = GT_MIN(2 * spares->n_wanted, (unsigned)GT_SPARES_MAX);
    if (spares->n_wanted == spares->n_least)
        return;
    spares->calm.repeat = spares->calm_s;
    ev_timer_again(spares->loop, &spares->calm);
}

void gt_spares_init(struct gt_spares *spares, struct ev_loop *loop, struct gt_streams *streams,
                    unsigned n_least, double calm_s)
{
    n_least = GT_MIN(n_least, (unsigned)GT_SPARES_MAX);
    *spares = (struct gt_spares){
        .loop = loop,
        .streams = streams,
        .n_least = n_least,
        .n_wanted = n_least,
        .calm_s = calm_s > 0 ? calm_s : GT_SPARES_CALM,
    };
    ev_timer_init(&spares->due, spares_on_due, 0, 0);
    ev_timer_init(&spares->calm, spares_on_calm, 0, 0);
    spares->due.data = spares->calm.data = spares;
}

void gt_spares_deinit(struct gt_spares *spares)
{
    ev_timer_stop(spares->loop, &spares->due);
    ev_timer_stop(spares->loop, &spares->calm);
}

void gt_spares_begin(struct gt_spares *spares)
{
    spares->backoff = (struct gt_backoff){0};
    ev_timer_stop(spares->loop, &spares->due);
    spares_refill(spares);
}

void gt_spares_rest(struct gt_spares *spares)
{
    ev_timer_stop(spares->loop, &spares->due);
}

int gt_spares_open(struct gt_spares *spares, int local_fd, const char *service)
{
    int r = 0;
    spares_adapt(spares);
    if (!gt_streams_bind(spares->streams, local_fd, service))
        r = gt_streams_open(spares->streams, local_fd, service);
    spares_refill(spares);
    return r;
}

void gt_spares_on_room(struct gt_spares *spares)
{
    spares_refill(spares);
}

void gt_spares_on_end(struct gt_spares *spares, enum gt_rst code)
{
    if (spares->n_wanted == 0 || spares->streams->is_held || code == GT_RST_CLOSED)
        return; /* the last: one too many, or the end of all */
    if (code != GT_RST_LOST && code != GT_RST_EXPIRED) {
        gt_debug("no spare is wanted: %s", gt_rst_text(code));
        spares->refused_until = gt_clock() + REFUSED_S;
        spares_arm(spares, REFUSED_S);
    }
    if (!ev_is_active(&spares->due)) /* several that were lost at once are one loss */
        spares_arm(spares, gt_backoff_next(&spares->backoff));
}
