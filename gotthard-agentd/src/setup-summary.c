/* SPDX-License-Identifier: ISC */
/*
 * The texts of what a setup offers; see the header.
 */
#include "setup-summary.h"

#include <stdio.h>

void setup_services_text(const struct setup *setup, char *ret, size_t cap)
{
    const struct targets *services = &setup->policy.services;
    size_t n = 0;

    snprintf(ret, cap, "none");
    for (size_t i = 0; i < services->n && n < cap; i++)
        n += (size_t)snprintf(ret + n, cap - n, "%s%s=%s:%u", i ? " " : "", services->all[i].name,
                              services->all[i].address.host, services->all[i].address.port);
    if (n >= cap)
        memcpy(ret + cap - sizeof("..."), "...", sizeof("..."));
}

const char *setup_permit_text(const struct setup *setup)
{
    return setup->policy.permit.n > 0 ? setup->policy.permit_text : "none";
}

const char *setup_policy_name(const struct setup *setup)
{
    switch (setup->trust.policy) {
    case GT_POLICY_PSK: return "psk";
    case GT_POLICY_PIN: return "pin";
    case GT_POLICY_LIST: return "list";
    }
    return "";
}

/* A line for each entry. */
static void show_permit(const struct setup *setup, int fd)
{
    const char *at = setup->policy.permit_text;

    if (!at || setup->policy.permit.n == 0) {
        dprintf(fd, "#   permit: no target beyond the services\n");
        return;
    }
    while (*at) {
        size_t n = strcspn(at, " ");

        if (n > 0)
            dprintf(fd, "#   permit %.*s\n", (int)n, at);
        at += n + (at[n] == ' ');
    }
}

void setup_show(const struct setup *setup, int fd)
{
    const struct targets *services = &setup->policy.services;

    gt_config_show(setup->config, fd);
    dprintf(fd, "# In effect:\n");
    if (setup->trust.policy == GT_POLICY_LIST)
        dprintf(fd, "#   trust policy list: only the certificates of the access list of %s\n",
                setup->settings->trust_authority);
    else if (setup->trust.policy == GT_POLICY_PIN)
        dprintf(fd, "#   trust policy pin: only the %zu pinned certificates of %s\n",
                setup->trust.n_pins, setup->pins_path);
    else
        dprintf(fd, "#   trust policy psk: any holder of the key under any name\n");
    for (size_t i = 0; i < services->n; i++)
        dprintf(fd, "#   service %s: %s:%u\n", services->all[i].name, services->all[i].address.host,
                services->all[i].address.port);
    if (services->n == 0)
        dprintf(fd, "#   no service\n");
    show_permit(setup, fd);
}
