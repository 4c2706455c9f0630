/* SPDX-License-Identifier: ISC */
/*
 * `config show`: prints each setting with its origin, and the trust policy that follows from the
 * settings and the pin file. A secret is shown as "set".
 */
#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "identity.h"

/* A pin file that cannot be used is shown, and no failure of this command. */
static void show_policy(const struct gt_config *config, int fd)
{
    struct identity identity = {0};
    struct failure failure;

    dprintf(fd, "# In effect:\n");
    if (identity_load_trust(config, &identity, &failure) != 0)
        dprintf(fd, "#   trust policy unusable: %s\n", failure.message);
    else if (identity.trust.policy == GT_POLICY_LIST)
        dprintf(fd, "#   trust policy list: only devices of the access list (%zu entries here)\n",
                gt_trust_count(&identity.trust));
    else if (identity.trust.policy == GT_POLICY_PIN)
        dprintf(fd, "#   trust policy pin: only the %zu pinned certificates of %s\n",
                identity.trust.n_pins, identity.pins_path);
    else
        dprintf(fd, "#   trust policy psk: any holder of the fleet key can impersonate a device\n");
    identity_deinit(&identity);
}

int cmd_config(struct context *context)
{
    if (strcmp(context->arguments[0], "show") != 0)
        return command_misused(context, "unknown argument, must be 'show'");
    int page = print_page_begin();
    gt_config_show(context->config, page);
    show_policy(context->config, page);
    print_page_end(&context->print, page);
    return 0;
}
