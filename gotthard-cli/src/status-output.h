/* SPDX-License-Identifier: ISC */
/* One device with its own answer, for people or for programs, on standard output. */
#pragma once

#include "device-table.h"
#include "gotthard/signaling/device-status.h"
#include "print.h"

struct status_answer {
    struct gt_device_status status;
    char fault[GT_FAULT_TEXT]; /* why the device does not use its present files; or empty */
    double round_trip_s;
};

/* @answer: the device's own; NULL: there is none. */
void status_output(struct print *print, const struct device_row *row,
                   const struct status_answer *answer);
