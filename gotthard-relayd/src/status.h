/* SPDX-License-Identifier: ISC */
/* What SIGUSR1 asks for: the relay in a few log lines, then one a plane and one a session. */
#pragma once

#include "registry.h"

void status_show(const struct registry *registry, const struct member_host *members,
                 struct quota *quota);
