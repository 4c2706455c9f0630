/* SPDX-License-Identifier: ISC */
/*
 * The list of reports; see the header. Repeating one is harmless: the operator drops a seq that is
 * not new.
 */
#include "reports.h"

#include <stdio.h>

#include "gotthard/base/clock.h"
#include "gotthard/base/log.h"

#define KEEP_S     60. /* the last report of a session that has ended */
#define N_REPEATS  4   /* after 1, 2, 4 and 8 s */
#define CLOSED_MAX 64  /* reports of ended sessions */

static void reports_publish(const struct reports *reports, const struct session_reports *of_session)
{
    uint8_t message[GT_MESSAGE_MAX];
    size_t n;
    int r = gt_report_seal(of_session->key, of_session->topic, &of_session->latest, message, &n);

    if (r)
        gt_warn_errno(r, "cannot seal a report");
    else
        reports->publish(reports->userdata, of_session->topic, gt_span(message, n));
}

static void reports_arm(struct reports *reports)
{
    ev_timer_stop(reports->loop, &reports->repeat);
    if (reports->n_repeats == N_REPEATS || gt_list_is_empty(&reports->of_sessions))
        return;
    ev_timer_set(&reports->repeat, (double)(1u << reports->n_repeats), 0.);
    ev_timer_start(reports->loop, &reports->repeat);
}

static void reports_publish_all(struct reports *reports)
{
    gt_list_for_each_safe (at, next, &reports->of_sessions) {
        struct session_reports *of_session = gt_list_entry(at, struct session_reports, link);

        if (of_session->drop_at > 0 && gt_clock() >= of_session->drop_at)
            reports_drop(of_session);
        else if (of_session->latest.seq > 0)
            reports_publish(reports, of_session);
    }
    reports_arm(reports);
}

static void reports_on_repeat(struct ev_loop *loop, ev_timer *watcher, int revents)
{
    struct reports *reports = watcher->data;

    reports->n_repeats++;
    reports_publish_all(reports);
}

void reports_init(struct reports *reports, struct ev_loop *loop, reports_publish_fn publish,
                  void *userdata)
{
    *reports = (struct reports){.loop = loop, .publish = publish, .userdata = userdata};
    gt_list_init(&reports->of_sessions);
    ev_timer_init(&reports->repeat, reports_on_repeat, 0., 0.);
    reports->repeat.data = reports;
}

void reports_deinit(struct reports *reports)
{
    ev_timer_stop(reports->loop, &reports->repeat);
    gt_list_for_each_safe (at, next, &reports->of_sessions)
        reports_drop(gt_list_entry(at, struct session_reports, link));
}

struct session_reports *reports_add(struct reports *reports, const char *topic,
                                    const uint8_t key[static GT_KEY_SIZE])
{
    struct session_reports *of_session = calloc(1, sizeof(*of_session));

    if (!of_session)
        return NULL;
    memcpy(of_session->key, key, sizeof(of_session->key));
    snprintf(of_session->topic, sizeof(of_session->topic), "%s", topic);
    gt_list_init(&of_session->link);
    gt_list_append(&reports->of_sessions, &of_session->link);
    return of_session;
}

void reports_send(struct reports *reports, struct session_reports *of_session,
                  const struct gt_report *report)
{
    uint16_t seq = of_session->latest.seq;

    if (of_session->latest.is_last || seq == UINT16_MAX)
        return;
    of_session->latest = *report;
    of_session->latest.seq = (uint16_t)(seq + 1);
    reports_publish(reports, of_session);
    reports->n_repeats = 0;
    reports_arm(reports);
}

struct session_reports *reports_drop(struct session_reports *of_session)
{
    if (!of_session)
        return NULL;
    gt_list_unlink(&of_session->link);
    gt_wipe(of_session, sizeof(*of_session));
    free(of_session);
    return NULL;
}

/* Drops expired ones, and the oldest beyond the limit. New ones are at the end of the list. */
static void reports_trim(struct reports *reports)
{
    size_t n_closed = 0;

    gt_list_for_each_safe (at, next, &reports->of_sessions)
        n_closed += gt_list_entry(at, struct session_reports, link)->drop_at > 0;
    gt_list_for_each_safe (at, next, &reports->of_sessions) {
        struct session_reports *of_session = gt_list_entry(at, struct session_reports, link);

        if (of_session->drop_at > 0 &&
            (gt_clock() >= of_session->drop_at || n_closed > CLOSED_MAX)) {
            reports_drop(of_session);
            n_closed--;
        }
    }
}

void reports_close(struct reports *reports, struct session_reports *of_session)
{
    if (!of_session)
        return;
    of_session->drop_at = gt_clock() + KEEP_S;
    reports_trim(reports);
}

void reports_repeat(struct reports *reports)
{
    reports->n_repeats = 0;
    reports_publish_all(reports);
}
