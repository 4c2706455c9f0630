/* SPDX-License-Identifier: ISC */
/*
 * `ssh-config`: the lines of ~/.ssh/config for a program that the package has not installed, or
 * with other settings than the default ones. The package has the same lines in
 * /etc/ssh/ssh_config.d.
 */
#include <limits.h>
#include <string.h>

#include "commands.h"
#include "gotthard/base/log.h"
#include "ssh-options.h"

int cmd_ssh_config(struct context *context)
{
    gt_cleanup(gt_free) char *text = NULL;
    char self[PATH_MAX];
    size_t n = 0;
    FILE *file = open_memstream(&text, &n);
    int r = file ? ssh_options_self(self, sizeof(self)) : -ENOMEM;

    if (r == 0) {
        fprintf(file, "Host *" COMMAND_HOST_SUFFIX "\n");
        r = ssh_options_write(context->line, self, "    ", file);
    }
    if (file && fclose(file) != 0)
        r = -ENOMEM;
    if (r > 0)
        return command_misused(context, "an option has characters that ssh_config cannot express");
    if (r < 0) {
        gt_error_errno(r, "ssh-config");
        return GT_EXIT_INTERNAL;
    }
    print_bytes(&context->print, text, n);
    return 0;
}
