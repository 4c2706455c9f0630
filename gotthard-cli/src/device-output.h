/* SPDX-License-Identifier: ISC */
/* Devices as text for people or as JSON for programs, on standard output. */
#pragma once

#include "device-table.h"
#include "print.h"
#include "selection.h"

/* A table with a line for each selected device, or with --json an object for each. @is_whole: of
 * the list. On a terminal the table is not wider than that. */
void device_output_list(struct print *print, const struct device_table *table,
                        const struct selection *selection, bool is_whole);
/* Writes the local time, or with @is_iso that of UTC in the form of ISO 8601; "" if it is unknown
 * (0). */
void device_output_time(uint64_t unix_time, bool is_iso, char *ret, size_t cap);
/* Returns the object of a device. */
json_t *device_output_json(const struct device_row *row);
/* One device: a property a line, or an object. */
void device_output_one(struct print *print, const struct device_row *row);
