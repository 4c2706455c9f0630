/* SPDX-License-Identifier: ISC */
/* A list under a lock; see the header. */
#include "gotthard/reports.h"

#include <stdio.h>

#define BYTES_MAX (2u << 20)

struct gt_broker_report *gt_report_new(enum gt_broker_event event, const char *text,
                                       struct gt_span payload)
{
    struct gt_broker_report *report = calloc(1, sizeof(*report) + payload.n);
    if (!report)
        return NULL;
    report->event = event;
    snprintf(report->text, sizeof(report->text), "%s", text);
    report->n = payload.n;
    if (payload.n)
        memcpy(report->payload, payload.data, payload.n);
    return report;
}

void gt_reports_init(struct gt_reports *reports, struct ev_loop *loop, ev_async *bell)
{
    *reports = (struct gt_reports){.loop = loop, .bell = bell};
    reports->last = &reports->first;
    pthread_mutex_init(&reports->lock, NULL);
}

void gt_reports_deinit(struct gt_reports *reports)
{
    for (struct gt_broker_report *report; (report = gt_reports_take(reports));)
        free(report);
    pthread_mutex_destroy(&reports->lock);
}

void gt_reports_close(struct gt_reports *reports)
{
    pthread_mutex_lock(&reports->lock);
    reports->loop = NULL;
    pthread_mutex_unlock(&reports->lock);
}

static bool reports_has_room(const struct gt_reports *reports,
                             const struct gt_broker_report *report)
{
    return report->event == GT_BROKER_ENDED ||
           reports->n_bytes + sizeof(*report) + report->n <= BYTES_MAX;
}

bool gt_reports_put(struct gt_reports *reports, struct gt_broker_report *report)
{
    pthread_mutex_lock(&reports->lock);
    bool is_taken = report && reports->loop && reports_has_room(reports, report);
    if (is_taken) {
        *reports->last = report;
        reports->last = &report->next;
        reports->n_bytes += sizeof(*report) + report->n;
        ev_async_send(reports->loop, reports->bell);
    }
    pthread_mutex_unlock(&reports->lock);
    if (!is_taken)
        free(report);
    return is_taken;
}

struct gt_broker_report *gt_reports_take(struct gt_reports *reports)
{
    pthread_mutex_lock(&reports->lock);
    struct gt_broker_report *report = reports->first;
    if (report) {
        reports->first = report->next;
        if (!reports->first)
            reports->last = &reports->first;
        reports->n_bytes -= sizeof(*report) + report->n;
    }
    pthread_mutex_unlock(&reports->lock);
    return report;
}
