/* SPDX-License-Identifier: ISC */
/*
 * The part of a setup that decides what operators may do: services, permitted targets, relays,
 * limits, trust; see
 * setup-private.h.
 */
#include "setup-private.h"

#include <stdio.h>

#include "gotthard/config/protected-file.h"
#include "last-good.h"
#include "pin-memory.h"

#define PINS_MAX     (1024 * 1024) /* bytes */
#define PINS_DEFAULT "operators.pins"

/* --- services and relays */

static int add_target(struct targets *targets, const char *name, const char *host, uint64_t port)
{
    struct target target = {.address.port = (uint16_t)port};

    snprintf(target.name, sizeof(target.name), "%s", name);
    snprintf(target.address.host, sizeof(target.address.host), "%s", host);
    return targets_add(targets, &target);
}

static int setup_add_map(struct setup *setup, const char *path, const struct gt_config_map *map,
                         struct targets *targets, char *ret_error)
{
    char why[GT_CONFIG_ERROR_MAX];

    int r = targets_add_map(targets, map, why, sizeof(why));
    return r > 0 ? setup_fail(setup, ret_error, path, "%s", why) : r;
}

static int setup_load_relays(struct setup *setup, char *ret_error)
{
    const struct settings *s = setup->settings;
    struct targets *relays = &setup->policy.relays;
    int r = 0;

    if (s->server_host && !gt_config_map_get(&s->relays, "main"))
        r = add_target(relays, "main", s->server_host, s->server_port);
    if (r == 0)
        r = setup_add_map(setup, "relays", &s->relays, relays, ret_error);
    for (size_t i = 0; r == 0 && i < relays->n; i++)
        if (target_udp(relays->all[i].name))
            r = setup_fail(setup, ret_error, "relays", "%s: a relay is not reached over UDP",
                           target_udp(relays->all[i].name));
        else if (strlen(relays->all[i].name) > GT_RELAY_NAME_MAX)
            r = setup_fail(setup, ret_error, "relays", "%s: a name has at most %d characters",
                           relays->all[i].name, GT_RELAY_NAME_MAX);
    return r;
}

/* The original tool has no services: its settings offer ssh, beside others as well. */
static bool setup_has_data_target(const struct setup *setup)
{
    return gt_config_is_set(setup->config, "agent.data_host") ||
           gt_config_is_set(setup->config, "agent.data_port");
}

bool setup_has_default_service(const struct setup *setup)
{
    return !gt_config_is_set(setup->config, "services") && !setup_has_data_target(setup);
}

static bool setup_offers_ssh(const struct setup *setup)
{
    return (setup_has_data_target(setup) || setup_has_default_service(setup)) &&
           !gt_config_map_get(&setup->settings->services, "ssh");
}

static int setup_load_permit(struct setup *setup, char *ret_error)
{
    struct policy *policy = &setup->policy;
    char why[320];

    policy->permit_text = setup->settings->permit;
    int r = permit_parse(policy->permit_text, &policy->permit, why, sizeof(why));
    return r > 0 ? setup_fail(setup, ret_error, "agent.permit", "%s", why) : r;
}

int setup_load_policy(struct setup *setup, char *ret_error)
{
    const struct settings *s = setup->settings;
    struct policy *policy = &setup->policy;

    policy->sessions_max = (unsigned)s->sessions_max;
    policy->per_operator_max = (unsigned)s->per_operator_max;
    policy->streams_max = (uint16_t)s->streams_max;
    policy->lifetime_max_s = (uint32_t)(s->lifetime_ms / 1000);
    int r = setup_load_relays(setup, ret_error);
    if (r == 0 && setup_offers_ssh(setup))
        r = add_target(&policy->services, "ssh", s->data_host, s->data_port);
    if (r == 0)
        r = setup_add_map(setup, "services", &s->services, &policy->services, ret_error);
    if (r == 0)
        r = setup_load_permit(setup, ret_error);
    if (r == 0 && policy->permit.n > 0 && targets_find(&policy->services, PERMIT_NAME))
        r = setup_fail(setup, ret_error, "services",
                       "with agent.permit '" PERMIT_NAME
                       "' is the word for permitted targets, choose another name");
    return r;
}

/* --- trust */

static int setup_parse_pins(struct setup *setup, const char *path, char *ret_error)
{
    gt_cleanup(gt_free) char *text = NULL;
    const char *why = NULL;
    size_t n = 0, line = 0;

    int r = gt_config_read_file(path, PINS_MAX, false, &text, &n, &why);
    if (r > 0)
        (void)setup_fail(setup, ret_error, "trust.pins", "%s: %s", path, why);
    if (r == 0) {
        r = gt_trust_parse_pins(gt_span(text, n), &setup->trust, &line, &why);
        if (r > 0)
            (void)setup_fail(setup, ret_error, "trust.pins", "%s:%zu: %s", path, line, why);
        setup->trust.pins_time = gt_protectedfile_time(path);
    }
    return r > 0 ? SETUP_E_FILE : r; /* it may be half written */
}

/* $GOTTHARD_CONFIG_DIR replaces /etc/gotthard in the default, as in all other paths. If it is
 * empty, nothing is replaced. */
static char *setup_pins_path(const struct setup *setup)
{
    const char *folder = getenv("GOTTHARD_CONFIG_DIR");
    char *path = NULL;

    if (folder && *folder && !gt_config_is_set(setup->config, "trust.pins"))
        return asprintf(&path, "%s/%s", folder, PINS_DEFAULT) < 0 ? NULL : path;
    return strdup(setup->settings->trust_pins);
}

/* Returns true if no pins are configured, and there is no file of the default name. */
static bool setup_has_no_pins(const struct setup *setup)
{
    return strcmp(setup->settings->trust_policy, "auto") == 0 &&
           !gt_config_is_set(setup->config, "trust.pins") &&
           gt_protectedfile_is_absent(setup->pins_path);
}

static int setup_load_list(struct setup *setup, char *ret_error)
{
    const struct settings *s = setup->settings;
    const char *why = NULL;

    if (!s->trust_authority)
        return setup_fail(setup, ret_error, "trust.policy", "list needs trust.authority");
    if (gt_authority_parse_public(s->trust_authority, setup->authority, &why) != 0)
        return setup_fail(setup, ret_error, "trust.authority", "%s", why);
    gt_trust_init_list(&setup->trust, s->device_name, s->access_max_age_ms / 1000);
    return 0;
}

static bool setup_has_policy(const struct setup *setup, const char *policy)
{
    return strcmp(setup->settings->trust_policy, policy) == 0;
}

int setup_fail_without_authority(const struct setup *setup, char *ret_error)
{
    return setup_fail(setup, ret_error, "trust.authority",
                      "absent, and an access list was required; restore it, or set trust.policy "
                      "to pin or psk");
}

/* With `auto` the key alone is trusted only if there were never pins. A file that cannot be read is
 * an error. */
int setup_load_trust(struct setup *setup, char *ret_error)
{
    setup->pins_path = setup_pins_path(setup);
    if (!setup->pins_path)
        return -ENOMEM;
    bool is_auto = setup_has_policy(setup, "auto");
    if (setup_has_policy(setup, "list") || (is_auto && setup->settings->trust_authority))
        return setup_load_list(setup, ret_error);
    if (is_auto && pin_memory_is_set(PIN_MEMORY_LIST))
        return setup_fail_without_authority(setup, ret_error);
    bool has_no_pins = setup_has_no_pins(setup);
    if (has_no_pins && pin_memory_is_set(PIN_MEMORY_PINS)) {
        (void)setup_fail(setup, ret_error, "trust.pins",
                         "%s is absent, and operators were pinned; restore it, or set "
                         "trust.policy to psk",
                         setup->pins_path);
        return SETUP_E_FILE;
    }
    if (!has_no_pins && !setup_has_policy(setup, "psk"))
        return setup_parse_pins(setup, setup->pins_path, ret_error);
    gt_trust_init_psk(&setup->trust);
    return 0;
}

void setup_remember(const struct setup *setup)
{
    if (setup->is_last_good)
        return;
    enum gt_policy policy = setup->trust.policy;
    if (policy != GT_POLICY_PSK || setup_has_policy(setup, "psk"))
        pin_memory_set(PIN_MEMORY_PINS, policy == GT_POLICY_PIN);
    if (policy == GT_POLICY_LIST || !setup_has_policy(setup, "auto"))
        pin_memory_set(PIN_MEMORY_LIST, policy == GT_POLICY_LIST);
    last_good_save(setup->config);
}
