/* SPDX-License-Identifier: ISC */
/*
 * The device's own rules, in the order of the protocol: what, how many, which way. See the
 * header.
 */
#include "policy.h"

void policy_deinit(struct policy *policy)
{
    targets_deinit(&policy->services);
    targets_deinit(&policy->relays);
}

void grant_deinit(struct grant *grant)
{
    targets_deinit(&grant->services);
}

static int policy_list_services(const struct policy *policy, const struct gt_pin *pin,
                                struct targets *ret)
{
    for (size_t i = 0; i < policy->services.n; i++) {
        const struct target *service = &policy->services.all[i];
        if (!gt_pin_allows_service(pin, service->name))
            continue;
        int r = targets_add(ret, service);
        if (r)
            return r;
    }
    return 0;
}

/* An empty service is good as long as there is any: the operator names one when a stream opens. */
static bool grant_has_service(const struct grant *grant, const char *service)
{
    return service[0] ? targets_resolve(&grant->services, service) != NULL : grant->services.n > 0;
}

static const struct target *policy_pick_relay(const struct policy *policy, const char *name)
{
    if (!name[0])
        return policy->relays.n ? &policy->relays.all[0] : NULL;
    return targets_find(&policy->relays, name);
}

static enum gt_ack_status policy_judge(const struct policy *policy,
                                       const struct policy_question *question,
                                       const struct grant *grant, const char **ret_why)
{
    *ret_why = "no such service for this operator";
    if (!grant_has_service(grant, question->req->service))
        return GT_ACK_SERVICE;
    *ret_why = "as many sessions as this device allows";
    if (question->n_sessions >= policy->sessions_max)
        return GT_ACK_QUOTA;
    *ret_why = "as many sessions as one operator may have";
    if (question->n_of_operator >= policy->per_operator_max)
        return GT_ACK_QUOTA;
    *ret_why = "no relay of that name in the configuration";
    if (!grant->relay)
        return GT_ACK_RELAY;
    *ret_why = "";
    return GT_ACK_OK;
}

int policy_decide(const struct policy *policy, const struct policy_question *question,
                  struct grant *ret)
{
    uint32_t asked_s = question->req->lifetime_s;
    struct grant grant = {
        .relay = policy_pick_relay(policy, question->req->relay),
        .lifetime_s = asked_s ? GT_MIN(asked_s, policy->lifetime_max_s) : policy->lifetime_max_s,
    };

    int r = policy_list_services(policy, question->pin, &grant.services);
    if (r) {
        grant_deinit(&grant);
        return r;
    }
    grant.status = policy_judge(policy, question, &grant, &grant.why);
    *ret = grant;
    return 0;
}

bool policy_still_allows(const struct policy *policy, const struct gt_pin *pin,
                         const struct targets *granted)
{
    for (size_t i = 0; i < granted->n; i++) {
        const struct target *service = targets_find(&policy->services, granted->all[i].name);
        if (!service || !target_equals(service, &granted->all[i]) ||
            !gt_pin_allows_service(pin, service->name))
            return false;
    }
    return true;
}

static bool pin_holds(const struct gt_pin *pin, const char *name, const uint8_t *fingerprint,
                      time_t now)
{
    return pin->role != GT_PIN_DEVICE && (!pin->until || now < pin->until) &&
           strcmp(pin->name, name) == 0 && memcmp(pin->fingerprint, fingerprint, GT_KEY_SIZE) == 0;
}

const struct gt_pin *policy_find_pin(const struct gt_trust *trust, const char *name,
                                     const uint8_t fingerprint[static GT_KEY_SIZE], time_t now)
{
    for (size_t i = 0; i < trust->n_pins; i++)
        if (pin_holds(&trust->pins[i], name, fingerprint, now))
            return &trust->pins[i];
    return NULL;
}
