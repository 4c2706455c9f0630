/* SPDX-License-Identifier: ISC */
/* See the header. */
#include "device-report.h"

#include "device-inventory.h"
#include "device-output.h"

static const char *plural(size_t n)
{
    return n == 1 ? "" : "s";
}

/* The sum of the rows that are shown. */
static void report_sum(const struct device_report *report)
{
    const struct list_verdict *verdict = report->verdict;
    size_t n = 0, n_online = 0, n_unknown = 0, n_not_judged = 0;

    for (const struct device_row *row = report->table->rows; row; row = row->hh.next) {
        n_not_judged += row->knowledge != DEVICE_AUTHENTIC &&
                        selection_accepts_name(report->selection, row->name);
        if (!selection_accepts(report->selection, row))
            continue;
        n++;
        n_online += row->knowledge == DEVICE_AUTHENTIC && row->is_online;
        n_unknown += row->knowledge != DEVICE_AUTHENTIC;
    }
    print_note(report->print, "%zu device%s, %zu online, %zu unknown; %s", n, plural(n), n_online,
               n_unknown,
               !verdict->is_whole    ? "the list is not whole"
               : verdict->is_by_name ? "the list is whole for the named devices"
                                     : "the list is whole");
    if (report->selection->n_tags > 0 && n_not_judged > 0)
        print_note(report->print,
                   "%zu device%s not shown: tags unknown, because the state is unknown",
                   n_not_judged, plural(n_not_judged));
    if (report->table->n_foreign_dropped > 0)
        print_warning(report->print,
                      "states that are encrypted with another key: only %d devices are shown",
                      DEVICE_TABLE_FOREIGN_MAX);
}

int device_report(const struct device_report *report, bool is_inventory)
{
    const struct list_verdict *verdict = report->verdict;
    struct failure failure;

    if (is_inventory)
        print_json(report->print, device_inventory_json(report->table, report->selection));
    else
        device_output_list(report->print, report->table, report->selection, verdict->is_whole);
    report_sum(report);
    if (verdict->is_whole)
        return 0;
    failure_set(&failure, FAILURE_LIST_NOT_WHOLE, verdict->hint, "the list is not whole: %s",
                verdict->why);
    return print_failure(report->print, &failure);
}
