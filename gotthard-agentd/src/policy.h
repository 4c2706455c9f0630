/* SPDX-License-Identifier: ISC */
/*
 * What an operator who proved who he is may have: which services, how many sessions, through which
 * relay, for how long. Pure; who he is was the exchange's to find out, and to start anything is the
 * agent's. Every stream is authorised again in the worker, against the services of the grant.
 */
#pragma once

#include "gotthard/exchange.h"
#include "target.h"

struct policy {
    struct targets services; /* owned */
    struct targets relays;   /* owned; the first is meant by "" */
    unsigned sessions_max, per_operator_max;
    uint16_t streams_max;
    uint32_t lifetime_max_s;
};

/* What is asked, by whom, while how many sessions are open. */
struct policy_question {
    const struct gt_req *req;
    const struct gt_pin *pin; /* NULL under psk */
    unsigned n_sessions, n_of_operator;
};

struct grant {
    enum gt_ack_status status;
    const char *why;            /* static; "" when granted */
    const struct target *relay; /* borrows from the policy */
    struct targets services;    /* owned: all this operator may use */
    uint32_t lifetime_s;
};

void policy_deinit(struct policy *policy);
/* -ENOMEM. Deinit the grant whatever its status. */
int policy_decide(const struct policy *policy, const struct policy_question *question,
                  struct grant *ret) GT_MUST_CHECK;
void grant_deinit(struct grant *grant);

/* After a reload, or as pins expire: would all that was granted be granted today? */
bool policy_still_allows(const struct policy *policy, const struct gt_pin *pin,
                         const struct targets *granted);
/* The pin by which a session was granted, if it still is one: same name, same key, a role that may,
 * not expired. */
const struct gt_pin *policy_find_pin(const struct gt_trust *trust, const char *name,
                                     const uint8_t fingerprint[static GT_KEY_SIZE], time_t now);
