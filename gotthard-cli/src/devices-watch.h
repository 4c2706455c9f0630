/* SPDX-License-Identifier: ISC */
/* `devices --watch`: the list, and then a line or an event for each change, until a signal. */
#pragma once

#include "commands.h"
#include "selection.h"

/* Returns the exit status: 0 after a signal once the list was shown. */
int devices_watch(struct context *context, const struct selection *selection);
