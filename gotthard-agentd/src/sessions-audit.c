/* SPDX-License-Identifier: ISC */
/* The audit of sessions: their grants, their streams as their workers report them, their end. */
#include "gotthard/base/clock.h"
#include "sessions-private.h"

static struct gt_audit_event event_of(const struct session *session, enum gt_audit_kind kind)
{
    const struct session_info *info = &session->info;

    return (struct gt_audit_event){
        .kind = kind,
        .session = session->id,
        .operator_ = info->operator_,
        .key = info->is_signed ? info->fingerprint : NULL,
    };
}

void sessions_audit(const struct sessions *sessions, const struct session *session,
                    enum gt_audit_kind kind, const char *reason)
{
    struct gt_audit_event event = event_of(session, kind);

    event.reason = reason;
    audit_write(sessions->audit, &event);
}

void sessions_audit_granted(const struct sessions *sessions, const struct session *session,
                            uint32_t lifetime_s)
{
    struct gt_audit_event event = event_of(session, GT_AUDIT_GRANTED);

    event.service = session->service;
    event.target = session->info.relay.name;
    event.purpose = session->info.purpose;
    event.seconds = lifetime_s;
    audit_write(sessions->audit, &event);
}

void sessions_audit_closed(const struct sessions *sessions, const struct session *session)
{
    const struct worker_event *over = &session->over;
    struct gt_audit_event event = event_of(session, GT_AUDIT_CLOSED);

    if (strcmp(session->id, "-") == 0)
        return; /* it was never granted */
    event.purpose = session->info.purpose;
    event.n_streams = over->n_streams;
    event.n_up = GT_MAX(over->n_up, session->usage.n_up);
    event.n_down = GT_MAX(over->n_down, session->usage.n_down);
    event.seconds = GT_MAX(over->seconds, (uint64_t)(gt_clock() - session->begun_at));
    event.reason = session->end_why[0]                       ? session->end_why
                   : over->why[0]                            ? over->why
                   : session->ending == SESSION_ENDED_KILLED ? "its process was killed"
                                                             : "its process has ended";
    audit_write(sessions->audit, &event);
}

static void audit_lost(const struct sessions *sessions, const struct session *session,
                       uint32_t n_lost)
{
    struct gt_audit_event event = event_of(session, GT_AUDIT_LOST);

    event.n_lost = n_lost;
    event.reason = "more connections in this session than the audit takes in a second";
    audit_write(sessions->audit, &event);
}

void sessions_on_worker_event(void *userdata, struct session *session,
                              const struct worker_event *reported)
{
    const struct sessions *sessions = userdata;
    struct gt_audit_event event = event_of(
        session, reported->kind == WORKER_STREAM_DIALLED ? GT_AUDIT_DIALLED : GT_AUDIT_ENDED);

    if (reported->n_lost > 0)
        audit_lost(sessions, session, reported->n_lost);
    if (reported->kind == WORKER_SESSION_ENDED) {
        session->over = *reported;
        return;
    }
    event.service = reported->service;
    event.target = reported->target;
    event.source = reported->source;
    event.reason = reported->why;
    event.stream = reported->stream;
    event.n_up = reported->n_up;
    event.n_down = reported->n_down;
    event.seconds = reported->seconds;
    audit_write(sessions->audit, &event);
}
