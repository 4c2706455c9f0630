/* SPDX-License-Identifier: ISC */
/*
 * A reload must not lower a protection because a file or a setting is absent now. The text of the
 * configuration may lower it. See setup.h.
 */
#include "setup-private.h"

#include <string.h>

/* Pins may be replaced by others, or by trust.policy = "psk" in words; the authority's list
 * likewise. */
static int check_policy(const struct setup *old, const struct setup *new, char *ret_error)
{
    if (old->trust.policy == GT_POLICY_LIST && new->trust.policy != GT_POLICY_LIST &&
        strcmp(new->settings->trust_policy, "auto") == 0)
        return setup_fail_without_authority(new, ret_error);
    if (old->trust.policy != GT_POLICY_PIN || new->trust.policy != GT_POLICY_PSK ||
        strcmp(new->settings->trust_policy, "psk") == 0)
        return 0;
    return setup_fail(new, ret_error, "trust.pins",
                      "%s is absent, and operators were pinned; restore it, or set trust.policy "
                      "to psk",
                      new->pins_path);
}

/* The default service may stay, but not come. */
static int check_services(const struct setup *old, const struct setup *new, char *ret_error)
{
    const struct target *ssh = targets_find(&new->policy.services, "ssh");
    const struct target *before = targets_find(&old->policy.services, "ssh");

    if (!setup_has_default_service(new) || (before && target_equals(before, ssh)))
        return 0;
    return setup_fail(new, ret_error, "services",
                      "absent, so that ssh would be offered at %s:%u; write an entry ssh if that "
                      "is intended",
                      ssh->address.host, ssh->address.port);
}

/* Without the folder the authorities of the system are trusted. */
static int check_authorities(const struct setup *old, const struct setup *new, char *ret_error)
{
    if (!old->settings->mqtt_cert_path || new->settings->mqtt_cert_path || !new->broker.is_tls)
        return 0;
    return setup_fail(new, ret_error, "mqtt.cert_path",
                      "absent, so that the authorities of the system would be trusted; restart "
                      "the agent if that is intended");
}

int setup_check_pair(const struct setup *setup, const struct credentials *old,
                     const struct credentials *new, char *ret_error)
{
    if (!old->has_pair || new->has_pair)
        return 0;
    return setup_fail(setup, ret_error, "mqtt.cert_path", "%s: cert.pem and private.key are absent",
                      setup->settings->mqtt_cert_path);
}

static int check_pair(const struct setup *old, const struct setup *new, char *ret_error)
{
    const char *before = old->settings->mqtt_cert_path, *now = new->settings->mqtt_cert_path;

    return before && now && strcmp(before, now) == 0
               ? setup_check_pair(new, old->credentials, new->credentials, ret_error)
               : 0;
}

int setup_check_reload(const struct setup *old, const struct setup *new,
                       char ret_error[static GT_CONFIG_ERROR_MAX])
{
    int r = check_policy(old, new, ret_error);

    if (r == 0)
        r = check_services(old, new, ret_error);
    if (r == 0)
        r = check_authorities(old, new, ret_error);
    return r ? r : check_pair(old, new, ret_error);
}
