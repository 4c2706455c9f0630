/* SPDX-License-Identifier: ISC */
/* See the header. */
#include "worker-usage.h"

#define PAUSE_S 2. /* between two reports: the listener's limit is one a second */

static void usage_count(const struct worker_usage *usage, struct worker_usage_counts *ret)
{
    gt_tunnel_byte_counts(usage->tunnel, &ret->n_up, &ret->n_down);
    ret->n_up += usage->streams->n_up;
    ret->n_down += usage->streams->n_down;
    ret->n_streams = (uint16_t)GT_MIN(gt_tunnel_n_streams(usage->tunnel), (unsigned)UINT16_MAX);
}

static bool is_equal(const struct worker_usage_counts *a, const struct worker_usage_counts *b)
{
    return a->n_streams == b->n_streams && a->n_up == b->n_up && a->n_down == b->n_down;
}

/* Looks again after a pause, as long as something changes. */
static void usage_update(struct worker_usage *usage)
{
    struct worker_usage_counts now;

    usage_count(usage, &now);
    if (is_equal(&now, &usage->sent) || !worker_reports_usage(usage->reports, &now))
        return;
    usage->sent = now;
    ev_timer_set(&usage->pause, PAUSE_S, 0.);
    ev_timer_start(usage->loop, &usage->pause);
}

static void usage_on_pause_over(struct ev_loop *loop, ev_timer *watcher, int revents)
{
    usage_update(watcher->data);
}

static void usage_on_prepare(struct ev_loop *loop, ev_prepare *watcher, int revents)
{
    struct worker_usage *usage = watcher->data;

    if (!ev_is_active(&usage->pause))
        usage_update(usage);
}

void worker_usage_start(struct worker_usage *usage, struct ev_loop *loop,
                        const struct gt_tunnel *tunnel, const struct worker_streams *streams,
                        struct worker_reports *reports)
{
    *usage = (struct worker_usage){
        .loop = loop, .tunnel = tunnel, .streams = streams, .reports = reports};
    ev_prepare_init(&usage->prepare, usage_on_prepare);
    ev_timer_init(&usage->pause, usage_on_pause_over, PAUSE_S, 0.);
    usage->prepare.data = usage->pause.data = usage;
    ev_prepare_start(loop, &usage->prepare);
}

void worker_usage_stop(struct worker_usage *usage)
{
    if (!usage->loop)
        return;
    ev_prepare_stop(usage->loop, &usage->prepare);
    ev_timer_stop(usage->loop, &usage->pause);
}
