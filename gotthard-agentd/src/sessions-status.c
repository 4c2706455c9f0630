/* SPDX-License-Identifier: ISC */
/* The sessions as an operator may see them; see sessions.h. */
#include <stdio.h>
#include <time.h>

#include "gotthard/base/clock.h"
#include "sessions-private.h"

static enum gt_status_session_state state_of(const struct session *session)
{
    if (!session->is_up)
        return session->has_usage ? GT_STATUS_ALONE : GT_STATUS_JOINING;
    return GT_STATUS_UP;
}

static void fill_session(const struct session *session, double now, struct gt_status_session *ret)
{
    *ret = (struct gt_status_session){
        .state = (uint8_t)state_of(session),
        .age_s = (uint32_t)GT_MAX(now - session->begun_at, 0.),
        .has_usage = session->has_usage,
        .n_streams = session->usage.n_streams,
        .n_up = session->usage.n_up,
        .n_down = session->usage.n_down,
    };
    snprintf(ret->operator_, sizeof(ret->operator_), "%s", session->info.operator_);
    gt_text_escape(gt_span_text(session->service), ret->service, sizeof(ret->service));
}

void sessions_fill_status(const struct sessions *sessions, const char *operator_, bool sees_all,
                          struct gt_device_status *ret)
{
    double now = gt_clock();

    *ret = (struct gt_device_status){
        .time = (uint64_t)GT_MAX(time(NULL), (time_t)0),
        .uptime_s = (uint32_t)(now - sessions->begun_at),
    };
    relay_views_fill(&sessions->relay_views, &sessions->setup->policy.relays, now, ret);
    gt_list_for_each_safe (at, next, &sessions->sessions) {
        const struct session *session = gt_list_entry(at, struct session, link);

        if (session_is_closing(session))
            continue;
        ret->n_sessions++;
        if (!sees_all && strcmp(session->info.operator_, operator_) != 0)
            ret->n_others++;
        else if (ret->n_listed < GT_STATUS_SESSIONS_MAX)
            fill_session(session, now, &ret->sessions[ret->n_listed++]);
    }
}
