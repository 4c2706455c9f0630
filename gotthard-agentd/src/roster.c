/* SPDX-License-Identifier: ISC */
/*
 * A list of sessions, and all that is done with it; see the header. It is short (limits.sessions),
 * so it is walked.
 */
#include "roster.h"

#include <stdio.h>
#include <time.h>

#include "farewell.h"
#include "gotthard/clock.h"
#include "gotthard/log.h"

#define roster_for_each(session, next, roster)                                                   \
    for (struct session *session = gt_list_entry((roster)->sessions.next, struct session, link), \
                        *next = gt_list_entry(session->link.next, struct session, link);         \
         &session->link != &(roster)->sessions;                                                  \
         session = next, next = gt_list_entry(next->link.next, struct session, link))

void roster_init(struct roster *roster, struct ev_loop *loop, const struct setup *setup,
                 void (*on_change)(void *userdata), void *userdata)
{
    *roster =
        (struct roster){.loop = loop, .setup = setup, .on_change = on_change, .userdata = userdata};
    gt_list_init(&roster->sessions);
    gt_list_init(&roster->farewells);
}

void roster_deinit(struct roster *roster)
{
    roster_for_each(session, next, roster) session_free(session);
    farewell_free_all(&roster->farewells);
    free(roster->folder);
}

/* --- coming and going */

static void roster_add(struct roster *roster, struct session *session)
{
    gt_list_append(&roster->sessions, &session->link);
    roster->n++;
}

/* Its operator would wait for it for as long as for a device without a network. @path: of its
 * record, which goes when he is told. */
static void roster_say_farewell(struct roster *roster, const struct target *relay,
                                const char *device, const uint8_t *rid, bool was_killed,
                                const char *path)
{
    struct farewell_settings settings = {
        .relay = relay,
        .device = device,
        .client_key = roster->setup->client_key,
        .rid = rid,
        .record_at = path,
        .was_killed = was_killed,
        .patience_ms = (unsigned)roster->setup->settings->resume_window_ms,
    };

    int r = farewell_new(roster->loop, &settings, &roster->farewells);
    if (r)
        gt_warn_errno(r, "device=%s an operator is not told that his session is over", device);
}

static void roster_on_session_end(void *userdata, struct session *session)
{
    struct roster *roster = userdata;

    if (session->ending != SESSION_SAID_GOODBYE && session->relay.port) {
        gt_cleanup(gt_free) char *path = gt_steal(&session->record_at);
        roster_say_farewell(roster, &session->relay, session->device, session->rid,
                            session->ending == SESSION_WAS_KILLED, path);
    }
    if (roster->newborn == session)
        roster->newborn = NULL;
    gt_list_unlink(&session->link);
    roster->n--;
    roster->on_change(roster->userdata);
}

/* A session of a listener before us. What it was granted is reviewed like all others'. */
static void roster_on_record(void *userdata, const struct record *record, int pidfd,
                             const char *path)
{
    struct roster *roster = userdata;
    struct session *session;

    int r =
        session_adopt(roster->loop, record, pidfd, path, roster_on_session_end, roster, &session);
    if (r) {
        gt_warn_errno(r, "device=%s a session that lives on is not known", record->device);
        return;
    }
    roster_add(roster, session);
    gt_info("session=%s device=%s operator=%s lives on: pid=%d", session->id, session->device,
            session->operator_, (int)session->pid);
}

/* The listener and its workers were killed together, or the device lost its power. */
static void roster_on_killed(void *userdata, const struct record *record, const char *path)
{
    char id[9];

    gt_text_hex(record->rid, 4, id);
    gt_info("session=%s device=%s operator=%s did not live on: its operator is told", id,
            record->device, record->operator_);
    if (record->relay.port)
        roster_say_farewell(userdata, &record->relay, record->device, record->rid, true, path);
    else
        unlink(path);
}

void roster_adopt(struct roster *roster, const char *folder)
{
    static const struct record_events events = {
        .on_alive = roster_on_record,
        .on_killed = roster_on_killed,
    };

    if (!roster->folder)
        roster->folder = strdup(folder);
    if (record_scan(folder, &events, roster) > 0)
        roster_review(roster, time(NULL));
}

int roster_prepare(struct roster *roster, const struct inbox_offer *offer)
{
    struct session_settings settings = {
        .device = roster->setup->settings->device_name,
        .operator_ = offer->operator_,
        .pin = offer->pin,
        .services = &offer->grant->services,
        .folder = roster->folder,
    };

    int r = session_new(roster->loop, &settings, roster_on_session_end, roster, &roster->newborn);
    if (r == 0)
        roster_add(roster, roster->newborn);
    return r;
}

static void roster_fill_handover(const struct roster *roster, const struct inbox_offer *offer,
                                 const struct gt_session_keys *keys, struct handover *ret)
{
    const struct settings *s = roster->setup->settings;

    ret->keys = *keys;
    memcpy(ret->client_key, roster->setup->client_key, GT_KEY_SIZE);
    snprintf(ret->device, sizeof(ret->device), "%s", s->device_name);
    snprintf(ret->operator_, sizeof(ret->operator_), "%s", offer->operator_);
    ret->relay = *offer->grant->relay;
    ret->is_single_port = s->is_single_port;
    ret->log_level = (uint8_t)gt_log_level();
    ret->lifetime_s = offer->grant->lifetime_s;
    ret->peer_timeout_ms = (uint32_t)s->peer_timeout_ms;
    ret->resume_window_ms = (uint32_t)s->resume_window_ms;
    ret->dial_timeout_ms = (uint32_t)s->dial_timeout_ms;
    ret->ring_size = (uint32_t)s->stream_buffer;
    ret->max_streams = (uint16_t)s->streams_max;
    ret->services = offer->grant->services; /* borrowed, for the length of a call */
}

int roster_begin(struct roster *roster, const struct inbox_offer *offer,
                 const struct gt_session_keys *keys)
{
    struct session *session = gt_steal(&roster->newborn);
    struct handover handover = {0};
    char service[64];

    if (!keys) {
        session_close(session, "not agreed");
        return 0;
    }
    roster_fill_handover(roster, offer, keys, &handover);
    int r = session_begin(session, &handover);
    gt_wipe(&handover, sizeof(handover));
    if (r)
        return r;
    gt_info("session=%s device=%s operator=%s agreed: service=%s relay=%s lifetime=%us pid=%d",
            session->id, session->device, session->operator_,
            gt_text_escape(gt_span_text(offer->service), service, sizeof(service)),
            offer->grant->relay->name, offer->grant->lifetime_s, (int)session->pid);
    roster->on_change(roster->userdata);
    return 0;
}

/* --- questions and orders */

static bool session_belongs_to(const struct session *session, const char *operator_)
{
    return strcmp(session->operator_, operator_) == 0;
}

unsigned roster_count(const struct roster *roster, const char *operator_)
{
    unsigned n = 0;

    roster_for_each(session, next, roster) n +=
        !session_is_closing(session) && (!operator_ || session_belongs_to(session, operator_));
    return n;
}

int roster_close(struct roster *roster, const char *operator_, bool is_admin, const uint8_t *rid)
{
    char why[GT_NAME_MAX + 32];
    int n = 0;

    snprintf(why, sizeof(why), "asked for by %s", operator_);
    roster_for_each(session, next, roster)
    {
        if (session_is_closing(session) || (rid && memcmp(session->rid, rid, GT_RID_SIZE) != 0))
            continue;
        if (!is_admin && !session_belongs_to(session, operator_)) {
            if (rid)
                return -EPERM;
            continue;
        }
        session_close(session, why);
        n++;
    }
    return n;
}

void roster_close_all(struct roster *roster, const char *why)
{
    roster_for_each(session, next, roster) session_close(session, why);
}

void roster_review(struct roster *roster, time_t now)
{
    const struct setup *setup = roster->setup;
    bool is_by_pin = setup->trust.policy == GT_POLICY_PIN;

    roster_for_each(session, next, roster)
    {
        const struct gt_pin *pin = NULL;
        if (is_by_pin && session->has_pin)
            pin = policy_find_pin(&setup->trust, session->operator_, session->fingerprint, now);
        if (is_by_pin && !pin)
            session_close(session, "its operator is not trusted any more");
        else if (!policy_still_allows(&setup->policy, pin, &session->services))
            session_close(session, "its services have changed");
    }
}

void roster_log(const struct roster *roster)
{
    roster_for_each(session, next, roster)
        gt_info("status: session=%s operator=%s state=%s pid=%d seconds=%.0f", session->id,
                session->operator_, session_state_text(session->state), (int)session->pid,
                gt_clock() - session->begun_at);
}
