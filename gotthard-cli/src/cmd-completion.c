/* SPDX-License-Identifier: ISC */
/*
 * `completion SHELL`: prints the script of a shell, the same that the package installs. The meson
 * build turns the files in completions/ into texts of C.
 */
#include <stdio.h>
#include <string.h>

#include "commands.h"

static const struct script {
    const char *shell, *text;
} scripts[] = {
    {
        "bash",
#include "completion.bash.inc"
    },
    {
        "zsh",
#include "completion.zsh.inc"
    },
    {
        "fish",
#include "completion.fish.inc"
    },
};

int cmd_completion(struct context *context)
{
    for (size_t i = 0; i < GT_ARRAY_SIZE(scripts); i++) {
        if (strcmp(context->arguments[0], scripts[i].shell) != 0)
            continue;
        int page = print_page_begin();
        dprintf(page, "%s", scripts[i].text);
        print_page_end(&context->print, page);
        return 0;
    }
    return command_misused(context, "unknown shell, must be 'bash', 'zsh' or 'fish'");
}
