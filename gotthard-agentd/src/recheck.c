/* SPDX-License-Identifier: ISC */
/* The judgement of live sessions; see the header. */
#include "recheck.h"

const char *recheck_text(enum recheck recheck)
{
    switch (recheck) {
    case RECHECK_GRANTED: return "granted";
    case RECHECK_KEY: return "the key of the session is no longer in use";
    case RECHECK_UNSIGNED:
        return "pins or an access list are required, and the operator gave no certificate";
    case RECHECK_PIN: return "the operator is no longer pinned";
    case RECHECK_EXPIRED: return "the operator's pin has expired";
    case RECHECK_NO_LIST: return "there is no access list";
    case RECHECK_OLD_LIST: return "the access list is older than trust.access_max_age";
    case RECHECK_REVOKED: return "the access list revokes the operator";
    case RECHECK_UNLISTED: return "the access list does not grant it";
    case RECHECK_CHANGED: return "the permitted targets or services have changed";
    case RECHECK_NOTHING: return "no service or target is granted any more";
    }
    return "";
}

static bool has_key(const struct recheck_rules *rules, const uint8_t *key_id)
{
    for (size_t i = 0; i < rules->n_key_ids; i++)
        if (memcmp(rules->key_ids[i], key_id, GT_KEY_ID_SIZE) == 0)
            return true;
    return false;
}

static enum recheck recheck_pin(const struct session_info *info, const struct recheck_rules *rules,
                                const struct gt_pin **ret_pin)
{
    const struct gt_trust *trust = rules->trust;

    if (!info->is_signed)
        return RECHECK_UNSIGNED;
    *ret_pin = policy_find_pin(trust, info->operator_, info->fingerprint, rules->now);
    if (*ret_pin)
        return RECHECK_GRANTED;
    return policy_find_pin(trust, info->operator_, info->fingerprint, 0) ? RECHECK_EXPIRED
                                                                         : RECHECK_PIN;
}

static enum recheck recheck_list(const struct session_info *info, const struct recheck_rules *rules,
                                 const struct gt_pin **ret_pin)
{
    const struct gt_trust *trust = rules->trust;

    if (!trust->list)
        return RECHECK_NO_LIST;
    if (gt_access_list_is_too_old(trust->list, rules->now, trust->list_max_age_s))
        return RECHECK_OLD_LIST;
    if (!info->is_signed)
        return RECHECK_UNSIGNED;
    *ret_pin = gt_trust_find(trust, true, info->operator_, info->fingerprint, rules->now);
    if (*ret_pin)
        return RECHECK_GRANTED;
    return gt_access_list_is_revoked(trust->list, true, info->operator_) ? RECHECK_REVOKED
                                                                         : RECHECK_UNLISTED;
}

static enum recheck recheck_trust(const struct session_info *info,
                                  const struct recheck_rules *rules, const struct gt_pin **ret_pin)
{
    switch (rules->trust->policy) {
    case GT_POLICY_PSK: return RECHECK_GRANTED;
    case GT_POLICY_PIN: return recheck_pin(info, rules, ret_pin);
    case GT_POLICY_LIST: return recheck_list(info, rules, ret_pin);
    }
    return RECHECK_NO_LIST;
}

static enum recheck recheck_grant(const struct session_info *info, const struct policy *policy,
                                  const struct gt_pin *pin)
{
    if (policy_recheck(policy, pin, &info->services, info->permit))
        return RECHECK_GRANTED;
    return policy_grants_anything(policy, pin) ? RECHECK_CHANGED : RECHECK_NOTHING;
}

enum recheck recheck_session(const struct session_info *info, const struct recheck_rules *rules,
                             const struct gt_pin **ret_pin)
{
    const struct gt_pin *pin = NULL;

    if (!has_key(rules, info->key_id))
        return RECHECK_KEY;
    enum recheck recheck = recheck_trust(info, rules, &pin);
    if (recheck == RECHECK_GRANTED)
        recheck = recheck_grant(info, rules->policy, pin);
    if (recheck == RECHECK_GRANTED || recheck == RECHECK_CHANGED)
        *ret_pin = pin;
    return recheck;
}
