/* SPDX-License-Identifier: ISC */
/*
 * The device's own rules, checked in the order of the protocol: service, quota, relay. See the
 * header.
 */
#include "policy.h"

#include <stdio.h>

void policy_deinit(struct policy *policy)
{
    targets_deinit(&policy->services);
    targets_deinit(&policy->relays);
    permit_deinit(&policy->permit);
}

void grant_deinit(struct grant *grant)
{
    targets_deinit(&grant->services);
}

int policy_list_services(const struct policy *policy, const struct gt_pin *pin, struct targets *ret)
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

const char *policy_permit_text(const struct policy *policy, const struct gt_pin *pin)
{
    return policy->permit.n > 0 && gt_pin_allows_service(pin, PERMIT_NAME) ? policy->permit_text
                                                                           : "";
}

bool policy_grants_anything(const struct policy *policy, const struct gt_pin *pin)
{
    bool is_any = policy_permit_text(policy, pin)[0] != 0;

    for (size_t i = 0; i < policy->services.n && !is_any; i++)
        is_any = gt_pin_allows_service(pin, policy->services.all[i].name);
    return is_any;
}

/* A target that is no service; the word "permit" stands for any of them. */
static bool grant_has_target(const struct policy *policy, const struct grant *grant,
                             const char *service)
{
    struct permit_target target;

    if (!grant->permit_text[0])
        return false;
    return strcmp(service, PERMIT_NAME) == 0 ||
           (permit_split(service, &target) && permit_may_allow(&policy->permit, &target));
}

/* A request may leave the service empty if there is at least one: each stream names its own. */
static bool grant_has_service(const struct policy *policy, const struct grant *grant,
                              const char *service)
{
    if (!service[0])
        return grant->services.n > 0 || grant->permit_text[0];
    return targets_resolve(&grant->services, service) || grant_has_target(policy, grant, service);
}

static const struct target *policy_find_relay(const struct policy *policy, const char *name)
{
    if (!name[0])
        return policy->relays.n ? &policy->relays.all[0] : NULL;
    return targets_find(&policy->relays, name);
}

/* Sets ->why and, for a limit, ->limit. */
static enum gt_ack_status grant_refuse(struct grant *grant, enum gt_ack_status status,
                                       const char *why, const char *setting, unsigned value)
{
    grant->why = why;
    if (setting)
        snprintf(grant->limit, sizeof(grant->limit), "%s (%u)", setting, value);
    return status;
}

static enum gt_ack_status policy_check(const struct policy *policy,
                                       const struct policy_request *request, struct grant *grant)
{
    if (!grant_has_service(policy, grant, request->req->service))
        return grant_refuse(grant, GT_ACK_SERVICE, "no such service for this operator", NULL, 0);
    if (request->n_sessions >= policy->sessions_max)
        return grant_refuse(grant, GT_ACK_QUOTA, "session limit of this device reached",
                            "limits.sessions", policy->sessions_max);
    if (request->n_of_operator >= policy->per_operator_max)
        return grant_refuse(grant, GT_ACK_QUOTA, "session limit of one operator reached",
                            "limits.sessions_per_operator", policy->per_operator_max);
    if (!grant->relay)
        return grant_refuse(grant, GT_ACK_RELAY, "no relay of that name in the configuration", NULL,
                            0);
    grant->why = "";
    return GT_ACK_OK;
}

static bool policy_grants_audit(const struct policy *policy, const struct gt_pin *pin)
{
    return policy->has_audit && gt_pin_may_read_audit(pin);
}

/* Lists what the request may reach: a session for the audit reaches nothing else. */
static int policy_list(const struct policy *policy, const struct policy_request *request,
                       struct grant *grant)
{
    static const struct target audit = {.name = POLICY_AUDIT};

    if (strcmp(request->req->service, POLICY_AUDIT) != 0) {
        grant->permit_text = policy_permit_text(policy, request->pin);
        return policy_list_services(policy, request->pin, &grant->services);
    }
    grant->permit_text = "";
    return policy_grants_audit(policy, request->pin) ? targets_add(&grant->services, &audit) : 0;
}

int policy_decide(const struct policy *policy, const struct policy_request *request,
                  struct grant *ret)
{
    uint32_t requested_s = request->req->lifetime_s;
    struct grant grant = {
        .relay = policy_find_relay(policy, request->req->relay),
        .lifetime_s =
            requested_s ? GT_MIN(requested_s, policy->lifetime_max_s) : policy->lifetime_max_s,
    };

    int r = policy_list(policy, request, &grant);
    if (r) {
        grant_deinit(&grant);
        return r;
    }
    grant.status = policy_check(policy, request, &grant);
    *ret = grant;
    return 0;
}

static bool policy_recheck_permit(const struct policy *policy, const struct gt_pin *pin,
                                  const char *permit_text)
{
    struct permit granted;
    char why[160];

    if (!permit_text[0])
        return true;
    if (!gt_pin_allows_service(pin, PERMIT_NAME) ||
        permit_parse(permit_text, &granted, why, sizeof(why)) != 0)
        return false;
    bool is_covered = permit_covers(&policy->permit, &granted);
    permit_deinit(&granted);
    return is_covered;
}

bool policy_recheck(const struct policy *policy, const struct gt_pin *pin,
                    const struct targets *granted, const char *permit_text)
{
    for (size_t i = 0; i < granted->n; i++) {
        const struct target *service = targets_find(&policy->services, granted->all[i].name);

        if (strcmp(granted->all[i].name, POLICY_AUDIT) == 0 && policy_grants_audit(policy, pin))
            continue;
        if (!service || !target_equals(service, &granted->all[i]) ||
            !gt_pin_allows_service(pin, service->name))
            return false;
    }
    return policy_recheck_permit(policy, pin, permit_text);
}

static bool is_valid_pin(const struct gt_pin *pin, const char *name, const uint8_t *fingerprint,
                         time_t now)
{
    return pin->role != GT_PIN_DEVICE && (!pin->until || now < pin->until) &&
           strcmp(pin->name, name) == 0 && memcmp(pin->fingerprint, fingerprint, GT_KEY_SIZE) == 0;
}

const struct gt_pin *policy_find_pin(const struct gt_trust *trust, const char *name,
                                     const uint8_t fingerprint[static GT_KEY_SIZE], time_t now)
{
    for (size_t i = 0; i < trust->n_pins; i++)
        if (is_valid_pin(&trust->pins[i], name, fingerprint, now))
            return &trust->pins[i];
    return NULL;
}
