/* SPDX-License-Identifier: ISC */
/* What the relay is doing, in log lines: one for all of it, one a plane, one a session. */
#pragma once

#include "registry.h"

struct status { /* all borrowed */
    const struct registry *registry;
    const struct member_host *members;
    struct quota *quota;
    struct plane *const *planes;
    size_t n_planes;
    unsigned long n_wakeups; /* of the control thread */
};

void status_log(const struct status *status);
