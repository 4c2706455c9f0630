/* SPDX-License-Identifier: ISC */
/* `version`: prints one line, or one JSON object with --json. */
#include "commands.h"

int cmd_version(struct context *context)
{
    if (context->print.is_json)
        print_json(&context->print,
                   json_pack("{s:s, s:s}", "program", "gotthard-cli", "version", GOTTHARD_VERSION));
    else
        print_data(&context->print, "gotthard-cli %s\n", GOTTHARD_VERSION);
    return 0;
}
