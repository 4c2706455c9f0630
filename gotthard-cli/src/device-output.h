/* SPDX-License-Identifier: ISC */
/* Devices as text for people or as JSON for programs, on standard output. */
#pragma once

#include "device-table.h"
#include "print.h"

/* Which rows are shown. */
struct device_filter {
    const char *pattern; /* of a shell, or NULL */
    bool is_online_only;
};
bool device_filter_accepts(const struct device_filter *filter, const struct device_row *row);

/* A table with a line for each device, or with --json an object for each. @is_whole: of the list.
 */
void device_output_list(struct print *print, const struct device_table *table,
                        const struct device_filter *filter, bool is_whole);
/* One device: a property a line, or an object. */
void device_output_one(struct print *print, const struct device_row *row);
