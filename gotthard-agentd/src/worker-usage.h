/* SPDX-License-Identifier: ISC */
/*
 * The streams and bytes of a session, reported to the listener for `gotthard-cli status`: at most
 * once in two seconds, and only when they have changed, so that an idle session stays asleep.
 */
#pragma once

#include "worker-reports.h"
#include "worker-streams.h"

struct worker_usage {
    struct ev_loop *loop;
    const struct gt_tunnel *tunnel;       /* keeps */
    const struct worker_streams *streams; /* keeps */
    struct worker_reports *reports;       /* keeps */
    ev_prepare prepare;                   /* each turn of the loop, unless ->pause runs */
    ev_timer pause;
    struct worker_usage_counts sent;
};

void worker_usage_start(struct worker_usage *usage, struct ev_loop *loop,
                        const struct gt_tunnel *tunnel, const struct worker_streams *streams,
                        struct worker_reports *reports);
/* Before the tunnel is freed. Does nothing if it was not started. */
void worker_usage_stop(struct worker_usage *usage);
