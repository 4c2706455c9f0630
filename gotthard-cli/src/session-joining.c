/* SPDX-License-Identifier: ISC */
/*
 * The state JOINING: both sides are on their way to the relay. The operator reads what either side
 * waits for, and the first thing that proves that they will not meet there ends the session.
 */
#include "session-internal.h"

#include <stdio.h>

/* Seconds. A relay connects two sides that wait there in less; both handshakes end in less. */
#define ELSEWHERE_S 2
#define OWN_S       3 /* for this side's result, after the relay has rejected the device */
#define REPORT_S    1 /* for the device's report, after the relay has rejected this side */

bool session_withdraw(struct session *session)
{
    if (session->is_withdrawn || session->report.is_last)
        return true;
    session->is_withdrawn = session->request && request_withdraw(session->request);
    return session->is_withdrawn;
}

static void session_limit(struct session *session, double seconds)
{
    ev_timer_stop(session->settings.loop, &session->deadline);
    ev_timer_set(&session->deadline, seconds, 0);
    ev_timer_start(session->settings.loop, &session->deadline);
}

/* Both sides wait, each at its own relay: one relay would have brought them together. */
static void session_check_relays(struct session *session)
{
    ev_timer_stop(session->settings.loop, &session->deadline);
    if (session->is_waiting && session->report.seq > 0 &&
        session->report.kind == GT_REPORT_AT_RELAY)
        session_limit(session, ELSEWHERE_S);
}

/* The relay has rejected the device for good. If it rejects this side as well, its own key is
 * wrong: this side's result decides. */
static bool session_is_device_rejected(const struct session *session)
{
    return session->report.is_last && session->report.kind == GT_REPORT_REJECTED;
}

bool session_awaits_report(struct session *session, enum gt_end_reason cause, const char *why)
{
    if (session->state != SESSION_JOINING || cause != GT_END_REFUSED || session->was_up ||
        session->report.is_last || session->is_offline)
        return false;
    session->is_waiting = false;
    session->retry_cause = cause;
    snprintf(session->retry_why, sizeof(session->retry_why), "%s", why);
    session_limit(session, REPORT_S);
    return true;
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
        .report = session->report.seq > 0 ? &session->report : NULL,
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
    bool has_result = session->is_waiting || session->retry_why[0];
    bool is_rejected = has_result && session->retry_cause == GT_END_REFUSED;
    if (is_rejected || (report->is_last && has_result))
        session_fail_by_report(session);
    else if (session_is_device_rejected(session))
        session_limit(session, OWN_S);
    else if (report->is_last && report->kind != GT_REPORT_AT_RELAY)
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
    if (session_is_device_rejected(session))
        session_limit(session, 0);
}

void session_on_waiting(void *userdata)
{
    struct session *session = userdata;

    session->is_waiting = true;
    if (session_is_device_rejected(session))
        session_limit(session, 0);
    else
        session_check_relays(session);
}
