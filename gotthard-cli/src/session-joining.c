/* SPDX-License-Identifier: ISC */
/*
 * The state JOINING: both sides are on their way to the relay. The operator reads what either side
 * waits for, and the first thing that proves that they will not meet there ends the session.
 */
#include "session-internal.h"

#include <stdio.h>

#define ELSEWHERE_S 2 /* a relay connects two sides that wait there in less */

bool session_withdraw(struct session *session)
{
    if (session->is_withdrawn || session->report.is_last)
        return true;
    session->is_withdrawn = session->request && request_withdraw(session->request);
    return session->is_withdrawn;
}

/* Both sides wait, each at its own relay: one relay would have brought them together. */
static void session_check_relays(struct session *session)
{
    ev_timer_stop(session->settings.loop, &session->deadline);
    if (!session->is_waiting || session->report.seq == 0 ||
        session->report.kind != GT_REPORT_AT_RELAY)
        return;
    ev_timer_set(&session->deadline, ELSEWHERE_S, 0);
    ev_timer_start(session->settings.loop, &session->deadline);
}

/* JOINING: the last report, or the two relays are not the same. A side that cannot reach the relay
 * either has its own failure, with the device's beside it, unless the session was closed there. */
void session_fail_by_report(struct session *session)
{
    bool is_closed = session->report.kind == GT_REPORT_ENDED;
    bool is_retrying = !session->is_waiting && session->retry_why[0] && !is_closed;
    struct tunnel_end end = {
        .device = session->settings.device,
        .relay = &session->relay,
        .report = &session->report,
        .cause = is_retrying ? session->retry_cause : GT_END_PEER,
        .why = session->retry_why,
        .has_proxy = session->proxy.kind != GT_PROXY_NONE,
    };
    struct failure failure;

    if (gt_tunnel_is_up(session->tunnel))
        return;
    diagnosis_of_tunnel_end(&end, &failure);
    session_fail(session, gt_end_reason_text(end.cause), &failure);
}

void session_on_report(void *userdata, const struct gt_report *report)
{
    struct session *session = userdata;

    session->report = *report;
    if (session->state != SESSION_JOINING || gt_tunnel_is_up(session->tunnel))
        return; /* the two sides are together at the relay */
    session->events.on_report(session->userdata, report);
    if (report->is_last &&
        (session->is_waiting || session->retry_why[0] || report->kind != GT_REPORT_AT_RELAY))
        session_fail_by_report(session);
    else
        session_check_relays(session);
}

void session_on_offline(void *userdata)
{
    struct session *session = userdata;

    session->is_offline = true;
    if (session->state == SESSION_JOINING)
        session->events.on_offline(session->userdata);
}

void session_on_retry(void *userdata, enum gt_end_reason cause, enum gt_code code, const char *why)
{
    struct session *session = userdata;

    if (cause == GT_END_PEER)
        return; /* the relay did not wait as long as this side does, which registers again */
    session->is_waiting = false;
    session->retry_cause = cause;
    snprintf(session->retry_why, sizeof(session->retry_why), "%s", why);
    ev_timer_stop(session->settings.loop, &session->deadline);
    session->events.on_relay_retry(session->userdata, &session->relay, why);
}

void session_on_waiting(void *userdata)
{
    struct session *session = userdata;

    session->is_waiting = true;
    session_check_relays(session);
}
