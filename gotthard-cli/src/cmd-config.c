/* SPDX-License-Identifier: ISC */
/* `config show`: each setting with where it came from; secrets only as "set". */
#include <string.h>

#include "commands.h"

int cmd_config(struct context *context)
{
    if (strcmp(context->words[0], "show") != 0)
        return command_misused(context, "config: only \"config show\" is known");
    int page = print_page_begin();
    gt_config_show(context->config, page);
    print_page_end(&context->print, page);
    return 0;
}
