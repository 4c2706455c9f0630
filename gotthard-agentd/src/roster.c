/* SPDX-License-Identifier: ISC */
/*
 * A list of sessions and the questions about it; see the header. It is short (limits.sessions), so
 * it is walked.
 */
#include "roster.h"

#include <stdio.h>

#include "gotthard/log.h"

#define roster_for_each(session, next, roster)                                                   \
    for (struct session *session = gt_list_entry((roster)->sessions.next, struct session, link), \
                        *next = gt_list_entry(session->link.next, struct session, link);         \
         &session->link != &(roster)->sessions;                                                  \
         session = next, next = gt_list_entry(next->link.next, struct session, link))

void roster_init(struct roster *roster)
{
    gt_list_init(&roster->sessions);
    roster->n = 0;
}

void roster_deinit(struct roster *roster)
{
    roster_for_each(session, next, roster) session_free(session);
    roster_init(roster);
}

void roster_add(struct roster *roster, struct session *session)
{
    gt_list_append(&roster->sessions, &session->link);
    roster->n++;
}

void roster_remove(struct roster *roster, struct session *session)
{
    gt_list_unlink(&session->link);
    roster->n--;
}

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

void roster_review(struct roster *roster, const struct gt_trust *trust, const struct policy *policy,
                   time_t now)
{
    bool is_by_pin = trust->policy == GT_POLICY_PIN;

    roster_for_each(session, next, roster)
    {
        const struct gt_pin *pin = NULL;
        if (is_by_pin && session->has_pin)
            pin = policy_find_pin(trust, session->operator_, session->fingerprint, now);
        if (is_by_pin && !pin)
            session_close(session, "its operator is not trusted any more");
        else if (!policy_still_allows(policy, pin, &session->services))
            session_close(session, "its services have changed");
    }
}

void roster_log(const struct roster *roster)
{
    roster_for_each(session, next, roster)
        gt_info("status: session=%s operator=%s state=%s pid=%d seconds=%.0f", session->id,
                session->operator_, session_state_text(session->state), (int)session->pid,
                ev_now(session->loop) - session->begun_at);
}
