/* SPDX-License-Identifier: ISC */
/*
 * The table of a session's life, and who may sit in which of its two slots. A slot belongs to the
 * identity that took it first until the session ends: names come from the authenticated connection
 * and are never taken from a frame.
 */
#include "session.h"

#include <stdio.h>

#include "gotthard/log.h"
#include "gotthard/text.h"

#define TO(state) (SESSION_##state + 1) /* 0, what is not listed, is no state */

static const uint8_t session_table[N_SESSION_STATES][N_SESSION_EVENTS] = {
    [SESSION_EMPTY] =
        {
            [SESSION_ONE_UP] = TO(HALF),
            [SESSION_TIMEOUT] = TO(GONE),
            [SESSION_EXPIRED] = TO(GONE),
            [SESSION_STOPPED] = TO(GONE),
        },
    [SESSION_HALF] =
        {
            [SESSION_BOTH_UP] = TO(PAIRED),
            [SESSION_REPLACED] = TO(HALF),
            [SESSION_LOST] = TO(GONE),
            [SESSION_BYE] = TO(GONE),
            [SESSION_TIMEOUT] = TO(GONE),
            [SESSION_EXPIRED] = TO(GONE),
            [SESSION_STOPPED] = TO(GONE),
        },
    [SESSION_PAIRED] =
        {
            [SESSION_REPLACED] = TO(PAIRED),
            [SESSION_LOST] = TO(GRACE),
            [SESSION_BYE] = TO(GONE),
            [SESSION_TIMEOUT] = TO(GONE),
            [SESSION_EXPIRED] = TO(GONE),
            [SESSION_STOPPED] = TO(GONE),
        },
    [SESSION_GRACE] =
        {
            [SESSION_ONE_UP] = TO(GRACE),
            [SESSION_BOTH_UP] = TO(PAIRED),
            [SESSION_REPLACED] = TO(GRACE),
            [SESSION_LOST] = TO(GRACE),
            [SESSION_BYE] = TO(GONE),
            [SESSION_TIMEOUT] = TO(GONE),
            [SESSION_EXPIRED] = TO(GONE),
            [SESSION_STOPPED] = TO(GONE),
        },
    [SESSION_GONE] = {0},
};

const char *session_state_text(enum session_state state)
{
    switch (state) {
    case SESSION_EMPTY: return "empty";
    case SESSION_HALF: return "half";
    case SESSION_PAIRED: return "paired";
    case SESSION_GRACE: return "grace";
    case SESSION_GONE: return "gone";
    }
    return "?";
}

static void session_enter(struct session *session, enum session_state state, uint64_t now)
{
    if (state == session->state)
        return;
    gt_debug("session=%s %s -> %s", session->tag, session_state_text(session->state),
             session_state_text(state));
    session->state = state;
    session->entered_at = session->active_at = now;
}

void session_init(struct session *session, const uint8_t rid[static GT_RID_SIZE], uint64_t now)
{
    *session = (struct session){.state = SESSION_EMPTY,
                                .born_at = now,
                                .entered_at = now,
                                .active_at = now,
                                .expires_at = NEVER};
    memcpy(session->rid, rid, GT_RID_SIZE);
    gt_text_hex(rid, 4, session->tag);
}

struct session_slot *session_slot(struct session *session, enum gt_role role)
{
    return &session->slots[role == GT_ROLE_OPERATOR ? 0 : 1];
}

struct session_slot *session_peer(struct session *session, enum gt_role role)
{
    return &session->slots[role == GT_ROLE_OPERATOR ? 1 : 0];
}

int session_claim(struct session *session, enum gt_role role, const char *name, uint32_t generation,
                  void *member, struct session_claim *ret)
{
    struct session_slot *slot = session_slot(session, role);
    bool is_both = session_peer(session, role)->member != NULL;

    if (slot->name[0] && strcmp(slot->name, name))
        return SESSION_E_TAKEN;
    if (slot->member && generation && generation <= slot->generation)
        return SESSION_E_TAKEN;
    *ret = (struct session_claim){
        .event = slot->member ? SESSION_REPLACED
                 : is_both    ? SESSION_BOTH_UP
                              : SESSION_ONE_UP,
        .replaced = slot->member,
        .is_new_process = slot->name[0] && generation <= slot->generation,
    };
    snprintf(slot->name, sizeof(slot->name), "%s", name);
    slot->generation = generation;
    slot->member = member;
    return 0;
}

void session_adopt(struct session *session, enum session_state state, uint64_t entered_at,
                   uint64_t now)
{
    switch (state) {
    case SESSION_EMPTY:
    case SESSION_HALF: session->state = SESSION_EMPTY; break;
    case SESSION_PAIRED:
    case SESSION_GRACE: session->state = SESSION_GRACE; break;
    case SESSION_GONE: session->state = SESSION_GONE; break;
    }
    session->entered_at = state == session->state ? entered_at : now;
}

int session_handle(struct session *session, enum session_event event, uint64_t now)
{
    unsigned next = session_table[session->state][event];

    session_enter(session, next ? (enum session_state)(next - 1) : SESSION_GONE, now);
    return next ? 0 : SESSION_E_UNLISTED;
}

static uint64_t session_state_deadline(const struct session *session,
                                       const struct session_limits *limits)
{
    switch (session->state) {
    case SESSION_EMPTY:
    case SESSION_HALF: return session->entered_at + limits->half_ms;
    case SESSION_PAIRED:
        return session->streams.n_live > session->streams.n_spares
                   ? NEVER
                   : session->active_at + limits->idle_ms;
    case SESSION_GRACE: return session->entered_at + limits->grace_ms;
    case SESSION_GONE: return NEVER;
    }
    return NEVER;
}

uint64_t session_deadline(const struct session *session, const struct session_limits *limits)
{
    return GT_MIN(session_state_deadline(session, limits), session->expires_at);
}

enum session_event session_due(const struct session *session, uint64_t now)
{
    return now >= session->expires_at ? SESSION_EXPIRED : SESSION_TIMEOUT;
}
