/* SPDX-License-Identifier: ISC */
/*
 * `ca`: the fleet's own certificate authority, which signs the certificates of enrolled devices and
 * operators for the broker.
 */
#include <string.h>

#include "ca.h"
#include "commands.h"

static int ca_init(struct context *context)
{
    const char *folder = context->settings->enroll_ca;
    struct failure failure;

    if (ca_create(context->settings, &failure) != 0)
        return print_failure(&context->print, &failure);
    print_data(&context->print, "%s/ca.crt\n", folder);
    print_note(&context->print,
               "%s/ca.key is the private key of this fleet's certificate authority: keep it with "
               "the fleet key, and a copy in a safe place. Its holder can issue devices and "
               "operators.",
               folder);
    print_note(&context->print,
               "Next: issue the broker's certificate in that folder (make-certificate-example "
               "broker HOST), and enrol devices (gotthard-cli enroll DEVICE).");
    return 0;
}

int cmd_ca(struct context *context)
{
    if (strcmp(context->arguments[0], "init") == 0)
        return ca_init(context);
    return command_misused(context, "unknown word '%s', must be init", context->arguments[0]);
}
