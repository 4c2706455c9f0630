/* SPDX-License-Identifier: ISC */
/* The service of an enrolled machine. */
#pragma once

#include "gotthard/base/base.h"
#include "gotthard/base/exit-status.h"

/* Enables and starts the unit of @program ("gotthard-agentd") where systemd runs and this user may;
 * otherwise, and with @is_left_alone, prints what to do. Returns the exit status, and whether the
 * service runs now. */
enum gt_exit_status gt_service_start(const char *program, bool is_left_alone, bool *ret_is_started);
