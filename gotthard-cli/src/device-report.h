/* SPDX-License-Identifier: ISC */
/* A list of devices for its reader: the rows, their sums, and whether the list is whole. */
#pragma once

#include "list-verdict.h"
#include "print.h"
#include "selection.h"

struct device_report {
    struct print *print;
    const struct device_table *table;
    const struct selection *selection;
    const struct list_verdict *verdict;
};

/* Prints the rows to standard output, or an inventory if @is_inventory, and the remainder to
 * standard error. Returns 0, or the exit status of a list that is not whole. */
int device_report(const struct device_report *report, bool is_inventory);
