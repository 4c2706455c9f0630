/* SPDX-License-Identifier: ISC */
/* One device with its own answer, for people or for programs, on standard output. */
#pragma once

#include "device-table.h"
#include "gotthard/signaling/device-status.h"
#include "print.h"

/* @status: the device's answer, which came after @round_trip_s; NULL: there is none. */
void status_output(struct print *print, const struct device_row *row,
                   const struct gt_device_status *status, double round_trip_s);
