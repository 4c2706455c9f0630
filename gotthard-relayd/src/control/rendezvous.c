/* SPDX-License-Identifier: ISC */
/*
 * The state table of a session, and the ownership of its two slots. A slot belongs to the identity
 * that claimed it first, until the session ends. Names come from the authenticated connection and
 * are never taken from a frame.
 */
#include "control/rendezvous.h"

#include <stdio.h>

#include "gotthard/base/log.h"
#include "gotthard/base/text.h"

#define TO(state) (RENDEZVOUS_##state + 1) /* 0, an event that is not listed, is no state */

static uint64_t pairing_deadline(const struct rendezvous *rendezvous,
                                 const struct rendezvous_limits *limits)
{
    return rendezvous->entered_at + limits->pairing_ms;
}

static uint64_t idle_deadline(const struct rendezvous *rendezvous,
                              const struct rendezvous_limits *limits)
{
    if (rendezvous_carries_streams(rendezvous) || limits->idle_ms == 0)
        return GT_CLOCK_NEVER;
    return rendezvous->active_at + limits->idle_ms;
}

static uint64_t grace_deadline(const struct rendezvous *rendezvous,
                               const struct rendezvous_limits *limits)
{
    return rendezvous->entered_at + limits->grace_ms;
}

static uint64_t no_deadline(const struct rendezvous *rendezvous,
                            const struct rendezvous_limits *limits)
{
    return GT_CLOCK_NEVER;
}

static const struct {
    const char *name; /* for the log */
    uint64_t (*deadline)(const struct rendezvous *, const struct rendezvous_limits *);
    enum gt_code overdue;           /* the code of the end after that deadline */
    enum rendezvous_state restored; /* the state after an upgrade, in which both clients are lost */
    uint8_t next[N_RENDEZVOUS_EVENTS];
} states[N_RENDEZVOUS_STATES] = {
    [RENDEZVOUS_EMPTY] = {.name = "empty",
                          .deadline = pairing_deadline,
                          .overdue = GT_CODE_PAIRING,
                          .restored = RENDEZVOUS_EMPTY,
                          .next = {[RENDEZVOUS_ONE_UP] = TO(WAITING),
                                   [RENDEZVOUS_TIMEOUT] = TO(ENDED),
                                   [RENDEZVOUS_EXPIRED] = TO(ENDED),
                                   [RENDEZVOUS_STOPPED] = TO(ENDED)}},
    [RENDEZVOUS_WAITING] = {.name = "waiting",
                            .deadline = pairing_deadline,
                            .overdue = GT_CODE_PAIRING,
                            .restored = RENDEZVOUS_EMPTY,
                            .next = {[RENDEZVOUS_BOTH_UP] = TO(PAIRED),
                                     [RENDEZVOUS_REPLACED] = TO(WAITING),
                                     [RENDEZVOUS_LOST] = TO(ENDED),
                                     [RENDEZVOUS_BYE] = TO(ENDED),
                                     [RENDEZVOUS_TIMEOUT] = TO(ENDED),
                                     [RENDEZVOUS_EXPIRED] = TO(ENDED),
                                     [RENDEZVOUS_STOPPED] = TO(ENDED)}},
    [RENDEZVOUS_PAIRED] = {.name = "paired",
                           .deadline = idle_deadline,
                           .overdue = GT_CODE_IDLE,
                           .restored = RENDEZVOUS_GRACE,
                           .next = {[RENDEZVOUS_REPLACED] = TO(PAIRED),
                                    [RENDEZVOUS_LOST] = TO(GRACE),
                                    [RENDEZVOUS_BYE] = TO(ENDED),
                                    [RENDEZVOUS_TIMEOUT] = TO(ENDED),
                                    [RENDEZVOUS_EXPIRED] = TO(ENDED),
                                    [RENDEZVOUS_STOPPED] = TO(ENDED)}},
    [RENDEZVOUS_GRACE] = {.name = "grace",
                          .deadline = grace_deadline,
                          .overdue = GT_CODE_GRACE,
                          .restored = RENDEZVOUS_GRACE,
                          .next = {[RENDEZVOUS_ONE_UP] = TO(GRACE),
                                   [RENDEZVOUS_BOTH_UP] = TO(PAIRED),
                                   [RENDEZVOUS_REPLACED] = TO(GRACE),
                                   [RENDEZVOUS_LOST] = TO(GRACE),
                                   [RENDEZVOUS_BYE] = TO(ENDED),
                                   [RENDEZVOUS_TIMEOUT] = TO(ENDED),
                                   [RENDEZVOUS_EXPIRED] = TO(ENDED),
                                   [RENDEZVOUS_STOPPED] = TO(ENDED)}},
    [RENDEZVOUS_ENDED] = {.name = "ended", .deadline = no_deadline, .restored = RENDEZVOUS_ENDED},
};

const char *rendezvous_state_text(enum rendezvous_state state)
{
    return states[state].name;
}

static void rendezvous_enter(struct rendezvous *rendezvous, enum rendezvous_state state,
                             uint64_t now)
{
    if (state == rendezvous->state)
        return;
    gt_debug("session=%s %s -> %s", rendezvous->tag, rendezvous_state_text(rendezvous->state),
             rendezvous_state_text(state));
    rendezvous->state = state;
    rendezvous->entered_at = rendezvous->active_at = now;
}

void rendezvous_init(struct rendezvous *rendezvous, const uint8_t rid[static GT_RID_SIZE],
                     uint64_t now)
{
    *rendezvous = (struct rendezvous){.state = RENDEZVOUS_EMPTY,
                                      .created_at = now,
                                      .entered_at = now,
                                      .active_at = now,
                                      .expires_at = GT_CLOCK_NEVER};
    memcpy(rendezvous->rid, rid, GT_RID_SIZE);
    gt_text_hex(rid, 4, rendezvous->tag);
}

struct rendezvous_slot *rendezvous_slot(struct rendezvous *rendezvous, enum gt_role role)
{
    return &rendezvous->slots[role == GT_ROLE_OPERATOR ? 0 : 1];
}

struct rendezvous_slot *rendezvous_peer(struct rendezvous *rendezvous, enum gt_role role)
{
    return &rendezvous->slots[role == GT_ROLE_OPERATOR ? 1 : 0];
}

int rendezvous_claim(struct rendezvous *rendezvous, enum gt_role role, const char *name,
                     uint32_t generation, void *client, struct rendezvous_claim *ret)
{
    struct rendezvous_slot *slot = rendezvous_slot(rendezvous, role);
    bool is_both = rendezvous_peer(rendezvous, role)->client != NULL;

    if (slot->name[0] && strcmp(slot->name, name) != 0)
        return RENDEZVOUS_E_TAKEN;
    if (slot->client && generation && generation <= slot->generation)
        return RENDEZVOUS_E_TAKEN;
    *ret = (struct rendezvous_claim){
        .event = slot->client ? RENDEZVOUS_REPLACED
                 : is_both    ? RENDEZVOUS_BOTH_UP
                              : RENDEZVOUS_ONE_UP,
        .replaced = slot->client,
        .is_new_process = slot->name[0] && generation <= slot->generation,
    };
    snprintf(slot->name, sizeof(slot->name), "%s", name);
    slot->generation = generation;
    slot->client = client;
    return 0;
}

void rendezvous_restore(struct rendezvous *rendezvous, enum rendezvous_state state,
                        uint64_t entered_at, uint64_t now)
{
    rendezvous->state = states[state].restored;
    rendezvous->entered_at = state == rendezvous->state ? entered_at : now;
}

int rendezvous_handle(struct rendezvous *rendezvous, enum rendezvous_event event, uint64_t now)
{
    unsigned next = states[rendezvous->state].next[event];

    rendezvous_enter(rendezvous, next ? (enum rendezvous_state)(next - 1) : RENDEZVOUS_ENDED, now);
    return next ? 0 : RENDEZVOUS_E_UNEXPECTED;
}

void rendezvous_set_load(struct rendezvous *rendezvous, uint32_t n_streams, uint64_t now)
{
    if (n_streams == 0)
        rendezvous->active_at = now;
    rendezvous->load = n_streams;
}

bool rendezvous_carries_streams(const struct rendezvous *rendezvous)
{
    return rendezvous->load > 0 || rendezvous->streams.n_live > 0;
}

uint64_t rendezvous_deadline(const struct rendezvous *rendezvous,
                             const struct rendezvous_limits *limits)
{
    return GT_MIN(states[rendezvous->state].deadline(rendezvous, limits), rendezvous->expires_at);
}

enum rendezvous_event rendezvous_due(const struct rendezvous *rendezvous, uint64_t now,
                                     enum gt_code *ret_code)
{
    bool is_expired = now >= rendezvous->expires_at;

    *ret_code = is_expired ? GT_CODE_LIFETIME : states[rendezvous->state].overdue;
    return is_expired ? RENDEZVOUS_EXPIRED : RENDEZVOUS_TIMEOUT;
}
