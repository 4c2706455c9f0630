/* SPDX-License-Identifier: ISC */
/*
 * Judges live sessions: whether a session would still be granted by the present configuration. One
 * function for every occasion: a reload, an expired pin, the restart of the agent, and the start of
 * a session itself. Pure.
 *
 * Limits (quotas, lifetime) and the relay grant nothing: lowered limits and a removed relay apply
 * to new sessions only.
 */
#pragma once

#include "policy.h"
#include "session-info.h"

enum recheck {
    RECHECK_GRANTED,
    RECHECK_KEY,      /* the key that it was agreed under is neither in use nor the previous one */
    RECHECK_UNSIGNED, /* pins or a list are required, and the operator gave no certificate */
    RECHECK_PIN,      /* no pin for this name and certificate */
    RECHECK_EXPIRED,  /* the last day of the pin is over */
    RECHECK_NO_LIST,  /* an access list is required, and there is none */
    RECHECK_OLD_LIST, /* the access list is older than trust.access_max_age */
    RECHECK_REVOKED,  /* the access list revokes the operator */
    RECHECK_UNLISTED, /* no entry for this name, certificate and device that has not expired */
    RECHECK_CHANGED, /* a granted service or permitted target was removed, moved, or is not for this
                         operator: the session continues with the present grant */
    RECHECK_NOTHING, /* likewise, and nothing is granted to this operator any more */
};

#define RECHECK_KEYS_MAX 4 /* SETUP_KEY_IDS_MAX */

struct recheck_rules {
    const struct gt_trust *trust;
    const struct policy *policy;
    uint8_t key_ids[RECHECK_KEYS_MAX][GT_KEY_ID_SIZE]; /* in use for the session's device */
    size_t n_key_ids;
    time_t now; /* wall clock, for pins that expire */
};

/* *ret_pin: what grants it (borrowed from the rules), NULL under policy psk; written for GRANTED
 * and CHANGED. */
enum recheck recheck_session(const struct session_info *info, const struct recheck_rules *rules,
                             const struct gt_pin **ret_pin);
/* Returns the reason in words, for the log. Static. */
const char *recheck_text(enum recheck recheck);
