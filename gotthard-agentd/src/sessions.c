/* SPDX-License-Identifier: ISC */
/*
 * The list of open sessions; see the header. It is short (limits.sessions), so that a linear search
 * is enough.
 */
#include "sessions.h"

#include <stdio.h>
#include <time.h>

#include "gotthard/base/clock.h"
#include "gotthard/base/log.h"
#include "gotthard/config/config-proxy.h"
#include "gotthard/tls/suite-choice.h"
#include "gotthard/tunnel/tunnel.h"
#include "recheck.h"
#include "sessions-private.h"
#include "status.h"

#define ABANDONED_AFTER_S 3. /* a session that is not up yet */

#define sessions_for_each(session, next, sessions)                                                 \
    for (struct session *session = gt_list_entry((sessions)->sessions.next, struct session, link), \
                        *next = gt_list_entry(session->link.next, struct session, link);           \
         &session->link != &(sessions)->sessions;                                                  \
         session = next, next = gt_list_entry(next->link.next, struct session, link))

static void sessions_on_late_bye_end(void *userdata)
{
    struct sessions *sessions = userdata;

    sessions->on_change(sessions->userdata);
}

void sessions_init(struct sessions *sessions, struct ev_loop *loop, const struct setup *setup,
                   void (*on_change)(void *userdata), reports_publish_fn publish, void *userdata)
{
    *sessions = (struct sessions){
        .loop = loop,
        .setup = setup,
        .on_change = on_change,
        .userdata = userdata,
        .begun_at = gt_clock(),
        .lifelines = {{-1, -1}, {-1, -1}},
    };
    gt_list_init(&sessions->sessions);
    late_byes_init(&sessions->late_byes, loop, sessions_on_late_bye_end, sessions);
    reports_init(&sessions->reports, loop, publish, userdata);
}

void sessions_deinit(struct sessions *sessions)
{
    sessions_for_each(session, next, sessions) session_free(session);
    late_byes_deinit(&sessions->late_byes);
    reports_deinit(&sessions->reports);
    lifelines_close(&sessions->lifelines);
    expiry_clock_deinit(&sessions->clock, gt_clock_ms());
    free(sessions->folder);
}

/* --- reports to the operators */

/* Ignore sessions that were never up: their end is no evidence about the relay. */
static void sessions_note_relay(struct sessions *sessions, const struct session *session,
                                const struct worker_report *report)
{
    const struct gt_report *details = &report->report;
    bool is_joining = report->presence == WORKER_JOINING;
    bool is_failed = is_joining ? details->kind != GT_REPORT_AT_RELAY : report->is_relay_lost;

    if (is_joining && details->kind == GT_REPORT_ENDED)
        return;
    const char *why = *details->why ? details->why : gt_code_text((enum gt_code)details->code);
    relay_views_note(&sessions->relay_views, session->info.relay.name, is_failed ? why : NULL,
                     gt_clock());
}

static void sessions_on_report(void *userdata, struct session *session,
                               const struct worker_report *report)
{
    struct sessions *sessions = userdata;

    sessions_note_relay(sessions, session, report);
    if (!session->of_operator)
        return;
    if (report->presence != WORKER_JOINING)
        session->of_operator = reports_drop(session->of_operator);
    else
        reports_send(&sessions->reports, session->of_operator, &report->report);
}

/* A worker that ended without a last report has failed, or its operator knows. */
static void sessions_end_reports(struct sessions *sessions, const struct session *session)
{
    static const struct gt_report failed = {
        .kind = GT_REPORT_ENDED, .is_last = true, .why = "the session's process has failed"};

    if (!session->of_operator)
        return;
    if (session->ending == SESSION_ENDED_KILLED)
        reports_send(&sessions->reports, session->of_operator, &failed);
    reports_close(&sessions->reports, session->of_operator);
}

/* --- beginning and end */

void sessions_add(struct sessions *sessions, struct session *session)
{
    gt_list_append(&sessions->sessions, &session->link);
    sessions->n++;
}

void sessions_on_session_end(void *userdata, struct session *session)
{
    struct sessions *sessions = userdata;

    enum gt_code code = session->is_withdrawn                     ? GT_CODE_WITHDRAWN
                        : session->ending == SESSION_ENDED_KILLED ? GT_CODE_NEW_PROCESS
                                                                  : GT_CODE_BYE;

    if (session->ending == SESSION_ENDED_CLEANLY)
        session_remove_file(session);
    else
        late_byes_send(&sessions->late_byes, sessions->setup, &session->info, code,
                       session->session_file_path);
    if (sessions->pending == session)
        sessions->pending = NULL;
    sessions_end_reports(sessions, session);
    session_free(session);
    sessions->n--;
    sessions->on_change(sessions->userdata);
}

static int session_info_of_offer(const struct request_handler_offer *offer,
                                 struct session_info *ret)
{
    *ret = (struct session_info){.is_signed = offer->fingerprint != NULL,
                                 .relay = *offer->grant->relay};
    snprintf(ret->device, sizeof(ret->device), "%s", offer->device);
    snprintf(ret->operator_, sizeof(ret->operator_), "%s", offer->operator_);
    snprintf(ret->purpose, sizeof(ret->purpose), "%s", offer->purpose);
    snprintf(ret->permit, sizeof(ret->permit), "%s", offer->grant->permit_text);
    memcpy(ret->key_id, offer->key_id, sizeof(ret->key_id));
    if (offer->fingerprint)
        memcpy(ret->fingerprint, offer->fingerprint, sizeof(ret->fingerprint));
    return targets_add_all(&ret->services, &offer->grant->services);
}

/* *ret_pin: as of recheck_session(). */
static enum recheck sessions_judge(const struct sessions *sessions, const struct session_info *info,
                                   time_t now, const struct gt_pin **ret_pin)
{
    const struct setup *setup = sessions->setup;
    struct recheck_rules rules = {.trust = &setup->trust, .policy = &setup->policy, .now = now};

    rules.n_key_ids = setup_key_ids(setup, info->device, rules.key_ids);
    return recheck_session(info, &rules, ret_pin);
}

time_t sessions_now(const struct sessions *sessions)
{
    uint64_t now_ms = gt_clock_ms();
    time_t now = expiry_clock_time(&sessions->clock, time(NULL), now_ms);

    return GT_MAX(now, sessions->setup->trust.pins_time);
}

int sessions_prepare(struct sessions *sessions, const struct request_handler_offer *offer)
{
    struct session_info info;
    struct session_settings settings = {
        .info = &info,
        .request_id = offer->request_id,
        .service = offer->service,
        .folder = sessions->folder,
        .lifelines = &sessions->lifelines,
        .on_report = sessions_on_report,
    };
    const struct gt_pin *pin;

    int r = session_info_of_offer(offer, &info);
    if (r == 0 && sessions_judge(sessions, &info, sessions_now(sessions), &pin) != RECHECK_GRANTED)
        r = -EACCES;
    if (r) {
        session_info_deinit(&info);
        return r;
    }
    r = session_new(sessions->loop, &settings, sessions_on_session_end, sessions,
                    &sessions->pending);
    if (r == 0)
        sessions_add(sessions, sessions->pending);
    return r;
}

static int sessions_fill_worker_parameters(const struct sessions *sessions,
                                           const struct request_handler_offer *offer,
                                           const struct gt_session_keys *keys,
                                           struct worker_parameters *ret)
{
    const struct settings *s = sessions->setup->settings;

    ret->keys = *keys;
    snprintf(ret->device, sizeof(ret->device), "%s", offer->device);
    snprintf(ret->operator_, sizeof(ret->operator_), "%s", offer->operator_);
    snprintf(ret->permit, sizeof(ret->permit), "%s", offer->grant->permit_text);
    ret->relay = *offer->grant->relay;
    (void)gt_config_proxy(&s->server_proxy, s->server_proxy_password, ret->relay.address.host,
                          &ret->proxy);
    ret->is_single_port = s->is_single_port;
    ret->log_level = (uint8_t)gt_log_level();
    ret->lifetime_s = offer->grant->lifetime_s;
    ret->peer_timeout_ms = (uint32_t)s->peer_timeout_ms;
    ret->resume_window_ms = (uint32_t)s->resume_window_ms;
    ret->vanished_ms = (uint32_t)s->vanished_ms;
    ret->linger_ms = (uint32_t)s->linger_ms;
    ret->dial_timeout_ms = (uint32_t)s->dial_timeout_ms;
    ret->ring_size = (uint32_t)gt_tunnel_ring_size(s->stream_buffer);
    ret->max_streams = (uint16_t)s->streams_max;
    ret->suite = (uint16_t)gt_suite_preferred();
    ret->services = offer->grant->services; /* borrowed while the parameters are sent */
    int r = setup_client_key(sessions->setup, offer->device, ret->client_key);
    return r > 0 ? -EACCES : r;
}

int sessions_start(struct sessions *sessions, const struct request_handler_offer *offer,
                   const struct gt_session_keys *keys)
{
    struct session *session = gt_steal(&sessions->pending);
    struct worker_parameters worker_parameters = {0};

    session->of_operator = reports_add(&sessions->reports, offer->rsp_topic, keys->report);
    int r = sessions_fill_worker_parameters(sessions, offer, keys, &worker_parameters);
    if (r)
        session_close(session, "no key for the relay");
    else
        r = session_start(session, &worker_parameters);
    gt_wipe(&worker_parameters, sizeof(worker_parameters));
    if (r)
        return r;
    gt_info("session=%s device=%s operator=%s agreed service=%s relay=%s lifetime=%us pid=%d",
            session->id, session->info.device, session->info.operator_, offer->service,
            offer->grant->relay->name, offer->grant->lifetime_s, (int)session->info.pid);
    if (*offer->purpose)
        gt_info("session=%s device=%s operator=%s purpose=\"%s\"", session->id,
                session->info.device, session->info.operator_, offer->purpose);
    sessions->on_change(sessions->userdata);
    return 0;
}

void sessions_cancel(struct sessions *sessions)
{
    session_close(gt_steal(&sessions->pending), "the key agreement failed");
}

/* --- all sessions */

static bool session_belongs_to(const struct session *session, const char *operator_)
{
    return strcmp(session->info.operator_, operator_) == 0;
}

unsigned sessions_count(const struct sessions *sessions, const char *operator_)
{
    unsigned n = 0;

    sessions_for_each(session, next, sessions) n +=
        !session_is_closing(session) && (!operator_ || session_belongs_to(session, operator_));
    return n;
}

bool sessions_are_awaited(const struct sessions *sessions)
{
    bool is_awaited = false;

    sessions_for_each(session, next, sessions) is_awaited |=
        session->of_operator && !session_is_closing(session);
    return is_awaited;
}

static bool session_matches(const struct session *session, const struct gt_close *close)
{
    switch (close->scope) {
    case GT_CLOSE_RID: return memcmp(session->info.rid, close->rid, GT_RID_SIZE) == 0;
    case GT_CLOSE_REQUEST: return memcmp(session->request_id, close->request, GT_REQ_ID_SIZE) == 0;
    case GT_CLOSE_OWN: return session_belongs_to(session, close->operator_);
    case GT_CLOSE_ALL: return true;
    }
    return false;
}

/* An operator who still waits for the session reads @why. */
static void sessions_close_with_report(struct sessions *sessions, struct session *session,
                                       const char *why)
{
    struct gt_report report = {.kind = GT_REPORT_ENDED, .is_last = true};

    snprintf(report.why, sizeof(report.why), "%s", why);
    if (session->of_operator)
        reports_send(&sessions->reports, session->of_operator, &report);
    session_close(session, why);
}

int sessions_close(struct sessions *sessions, const struct gt_close *close, bool is_admin)
{
    bool is_one = close->scope == GT_CLOSE_RID || close->scope == GT_CLOSE_REQUEST;
    char why[GT_NAME_MAX + GT_PURPOSE_MAX + 32];
    int n = 0;

    snprintf(why, sizeof(why), "closed by %s%s%s", close->operator_, close->purpose[0] ? ": " : "",
             close->purpose);
    sessions_for_each(session, next, sessions)
    {
        if (session_is_closing(session) || !session_matches(session, close))
            continue;
        if (!is_admin && !session_belongs_to(session, close->operator_)) {
            if (is_one)
                return -EPERM;
            continue;
        }
        sessions_close_with_report(sessions, session, why);
        n++;
    }
    return n;
}

/* A younger session is probably about to come up. */
static bool session_is_abandoned(const struct session *session)
{
    return !session->is_up &&
           (session->was_up || gt_clock() >= session->begun_at + ABANDONED_AFTER_S);
}

bool sessions_replace(struct sessions *sessions, const char *operator_)
{
    sessions_for_each(session, next, sessions)
    {
        if (!session_is_abandoned(session) || session_is_closing(session) ||
            !session_belongs_to(session, operator_))
            continue;
        sessions_close_with_report(sessions, session,
                                   "replaced by a newer request of its operator");
        return true;
    }
    return false;
}

bool sessions_are_over(const struct sessions *sessions)
{
    return sessions->n == 0 && gt_list_is_empty(&sessions->late_byes.list);
}

void sessions_close_all(struct sessions *sessions, const char *why)
{
    sessions_for_each(session, next, sessions) session_close(session, why);
}

/* The session continues with what @pin is granted now. */
static void sessions_change(const struct sessions *sessions, struct session *session,
                            const struct gt_pin *pin)
{
    const struct policy *policy = &sessions->setup->policy;
    struct targets services = {0};

    if (policy_list_services(policy, pin, &services) != 0) {
        targets_deinit(&services);
        session_withdraw(session, recheck_text(RECHECK_CHANGED));
        return;
    }
    session_change(session, &services, policy_permit_text(policy, pin),
                   recheck_text(RECHECK_CHANGED));
}

time_t sessions_recheck(struct sessions *sessions, time_t now)
{
    time_t next_expiry = 0;

    sessions_for_each(session, next, sessions)
    {
        const struct gt_pin *pin = NULL;
        enum recheck recheck = sessions_judge(sessions, &session->info, now, &pin);

        if (recheck == RECHECK_CHANGED)
            sessions_change(sessions, session, pin);
        else if (recheck != RECHECK_GRANTED)
            session_withdraw(session, recheck_text(recheck));
        if (pin && pin->until && (!next_expiry || pin->until < next_expiry))
            next_expiry = pin->until;
    }
    return next_expiry;
}

void sessions_log(const struct sessions *sessions)
{
    sessions_for_each(session, next, sessions)
    {
        struct session_status status = {
            .id = session->id,
            .operator_ = session->info.operator_,
            .state = session_state_text(session->state),
            .pid = session->info.pid,
            .age_s = gt_clock() - session->begun_at,
        };
        session_status_log(&status);
    }
}
