/* SPDX-License-Identifier: ISC */
/*
 * Decodes arbitrary bytes as a report of a worker. An accepted report is of a known kind, and its
 * encoding has the same bytes.
 */
#include "worker-reports.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void must(bool condition)
{
    if (!condition)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    uint8_t bytes[WORKER_REPORT_SIZE] = {0}, again[WORKER_REPORT_SIZE];
    struct worker_report report;

    memcpy(bytes, data, GT_MIN(n, sizeof(bytes)));
    if (!worker_report_decode(bytes, &report))
        return 0;
    must(report.presence <= WORKER_ALONE);
    must(report.report.kind <= GT_REPORT_ENDED);
    must(strlen(report.report.relay) <= GT_REPORT_RELAY_MAX);
    must(strlen(report.report.why) <= GT_REPORT_WHY_MAX);
    worker_report_encode(&report, again);
    must(memcmp(again, bytes, sizeof(bytes)) == 0);
    return 0;
}
