/* SPDX-License-Identifier: ISC */
/* The ids of failures that a diagnosis of either side reports: those of gotthard-cli, which
 * gotthard(7) explains. gotthard-cli's cmd-doctor.c checks that they are equal. */
#pragma once

#include "gotthard/base/exit-status.h"
#include "gotthard/doctor/checkup.h"

enum gt_fault_id {
    GT_FAULT_CONFIG = 10,
    GT_FAULT_CLOCK = 13,
    GT_FAULT_CERTIFICATE = 14,
    GT_FAULT_BROKER_UNREACHABLE = 20,
    GT_FAULT_BROKER_REFUSED = 21,
    GT_FAULT_BROKER_UNTRUSTED = 22,
    GT_FAULT_BROKER_FOREIGN = 23,
    GT_FAULT_TARGET = 46,
    GT_FAULT_RELAY_UNREACHABLE = 50,
    GT_FAULT_RELAY_REFUSED = 51,
    GT_FAULT_RELAY_FULL = 52,
    GT_FAULT_RELAY_ERROR = 53,
    GT_FAULT_RELAY_LIMIT = 55,
    GT_FAULT_PROXY = 56,
    GT_FAULT_INTERNAL = 99,
};
