/* SPDX-License-Identifier: ISC */
/*
 * The authorization of an authenticated operator: which services, how many sessions, through which
 * relay, for how long. Pure: the responder has authenticated the operator, and the agent starts the
 * session. The worker authorizes every stream again, against the services of the grant.
 */
#pragma once

#include "gotthard/signaling/exchange.h"
#include "permit.h"
#include "target.h"

/* The service that is the audit of the device: no name of a configured service. */
#define POLICY_AUDIT "@audit"

struct policy {
    struct targets services; /* owned */
    struct permit permit;    /* owned */
    const char *permit_text; /* keeps; the same as the setting has it; NULL: none */
    struct targets relays;   /* owned; "" means the first */
    unsigned sessions_max, per_operator_max;
    uint16_t streams_max;
    uint32_t lifetime_max_s;
    bool has_audit; /* an audit is written */
};

/* A request, its authenticated operator, and the numbers of open sessions. */
struct policy_request {
    const struct gt_req *req;
    const struct gt_pin *pin; /* NULL: policy psk */
    unsigned n_sessions, n_of_operator;
};

struct grant {
    enum gt_ack_status status;
    const char *why;            /* static string; "" if granted */
    char limit[48];             /* QUOTA: the setting and its value; otherwise "" */
    const struct target *relay; /* borrowed from the policy; NULL: none */
    struct targets services;    /* owned: all that this operator is authorized for */
    const char *permit_text;    /* borrowed from the policy; "": no other target */
    uint32_t lifetime_s;
};

void policy_deinit(struct policy *policy);
/* Decides on a request. -ENOMEM. The caller deinits the grant whatever its status. */
int policy_decide(const struct policy *policy, const struct policy_request *request,
                  struct grant *ret) GT_MUST_CHECK;
void grant_deinit(struct grant *grant);

/* Appends the services that are granted to the operator of @pin (NULL: policy psk). -ENOMEM. */
int policy_list_services(const struct policy *policy, const struct gt_pin *pin,
                         struct targets *ret) GT_MUST_CHECK;
/* Returns the permitted targets as the setting has them (borrowed), or "" if this operator may use
 * none. */
const char *policy_permit_text(const struct policy *policy, const struct gt_pin *pin);
/* Returns true if this operator may use any service or target. */
bool policy_grants_anything(const struct policy *policy, const struct gt_pin *pin);
/* Returns true if every service in @granted would be granted now, with the same target, and
 * so would everything that @permit_text permits. */
bool policy_recheck(const struct policy *policy, const struct gt_pin *pin,
                    const struct targets *granted, const char *permit_text);
/* Returns the pin of an operator or admin with this name and this key that has not expired at @now
 * (wall clock), or NULL. */
const struct gt_pin *policy_find_pin(const struct gt_trust *trust, const char *name,
                                     const uint8_t fingerprint[static GT_KEY_SIZE], time_t now);
