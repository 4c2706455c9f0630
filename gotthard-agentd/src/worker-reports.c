/* SPDX-License-Identifier: ISC */
/*
 * The table from the end reasons of a tunnel to the kinds of a REPORT, and both ends of the pipe.
 */
#include "worker-reports.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "gotthard/base/fields.h"

#define WAITING_S 1. /* from the registration to the report AT_RELAY */

_Static_assert(WORKER_REPORT_SIZE <= PIPE_BUF, "a report is written whole");
_Static_assert(sizeof(struct worker_report) <= WORKER_REPORT_SIZE, "each report fits");

/* --- encoding: these fields, then zeros */

static const struct gt_field fields[] = {
    GT_FIELD_U8(struct worker_report, presence),
    GT_FIELD_FLAG(struct worker_report, is_relay_lost),
    GT_FIELD_U16(struct worker_report, usage.n_streams),
    GT_FIELD_U64(struct worker_report, usage.n_up),
    GT_FIELD_U64(struct worker_report, usage.n_down),
    GT_FIELD_U8(struct worker_report, report.kind),
    GT_FIELD_FLAG(struct worker_report, report.is_last),
    GT_FIELD_U16(struct worker_report, report.code),
    GT_FIELD_STRING(struct worker_report, report.relay),
    GT_FIELD_STRING(struct worker_report, report.why),
};

void worker_report_encode(const struct worker_report *report,
                          uint8_t ret[static WORKER_REPORT_SIZE])
{
    struct gt_writer w = gt_writer(ret, WORKER_REPORT_SIZE);

    memset(ret, 0, WORKER_REPORT_SIZE);
    gt_fields_write(&w, fields, GT_ARRAY_SIZE(fields), report);
}

bool worker_report_decode(const uint8_t bytes[static WORKER_REPORT_SIZE], struct worker_report *ret)
{
    struct gt_reader reader = gt_reader(bytes, WORKER_REPORT_SIZE);
    struct worker_report report = {0};

    gt_fields_read(&reader, fields, GT_ARRAY_SIZE(fields), &report);
    while (!reader.failed && !gt_reader_is_done(&reader))
        if (gt_read_u8(&reader) != 0)
            return false;
    if (reader.failed || report.presence > WORKER_ALONE || report.report.kind > GT_REPORT_ENDED)
        return false;
    *ret = report;
    return true;
}

/* --- the worker's end */

static enum gt_report_kind kind_of(enum gt_end_reason cause)
{
    switch (cause) {
    case GT_END_UNREACHABLE:
    case GT_END_PROXY:
    case GT_END_LOST: return GT_REPORT_UNREACHABLE;
    case GT_END_REFUSED: return GT_REPORT_REJECTED;
    case GT_END_LIMIT:
    case GT_END_RELAY: return GT_REPORT_ERROR;
    case GT_END_PEER: return GT_REPORT_AT_RELAY;
    case GT_END_CLOSED:
    case GT_END_EXPIRED:
    case GT_END_IDLE:
    case GT_END_WITHDRAWN:
    case GT_END_INTERNAL: return GT_REPORT_ENDED;
    }
    return GT_REPORT_ENDED;
}

/* A full pipe loses the report: the listener does not read, and a later one replaces it. */
static void reports_write(struct worker_reports *reports, const struct worker_report *record)
{
    uint8_t bytes[WORKER_REPORT_SIZE];

    worker_report_encode(record, bytes);
    if (reports->fd >= 0 && write(reports->fd, bytes, sizeof(bytes)) < 0 && errno != EAGAIN)
        gt_close(&reports->fd); /* the listener has exited */
}

static void reports_send(struct worker_reports *reports, enum gt_report_kind kind,
                         enum gt_code code, bool is_last, const char *why)
{
    const struct gt_host_port *relay = reports->relay;
    struct worker_report record = {.report = {.kind = (uint8_t)kind, .is_last = is_last}};

    if (kind == GT_REPORT_ERROR)
        record.report.code = (uint16_t)code;
    if (reports->was_up)
        return;
    ev_timer_stop(reports->loop, &reports->waiting);
    bool is_ipv6 = strchr(relay->host, ':') != NULL;
    snprintf(record.report.relay, sizeof(record.report.relay), is_ipv6 ? "[%s]:%u" : "%s:%u",
             relay->host, relay->port);
    snprintf(record.report.why, sizeof(record.report.why), "%s", why);
    reports_write(reports, &record);
}

static void reports_on_waiting(struct ev_loop *loop, ev_timer *watcher, int revents)
{
    reports_send(watcher->data, GT_REPORT_AT_RELAY, GT_CODE_NONE, false, "");
}

void worker_reports_init(struct worker_reports *reports, struct ev_loop *loop, int fd,
                         const struct gt_host_port *relay)
{
    *reports = (struct worker_reports){.loop = loop, .fd = fd, .relay = relay};
    (void)fcntl(fd, F_SETFL, O_NONBLOCK);
    ev_timer_init(&reports->waiting, reports_on_waiting, WAITING_S, 0.);
    reports->waiting.data = reports;
}

void worker_reports_deinit(struct worker_reports *reports)
{
    ev_timer_stop(reports->loop, &reports->waiting);
    gt_close(&reports->fd);
}

void worker_reports_retry(struct worker_reports *reports, enum gt_end_reason cause, const char *why)
{
    reports_send(reports, kind_of(cause), GT_CODE_NONE, false, why);
}

void worker_reports_waiting(struct worker_reports *reports)
{
    ev_timer_set(&reports->waiting, WAITING_S, 0.);
    ev_timer_start(reports->loop, &reports->waiting);
}

static bool reports_write_present(struct worker_reports *reports)
{
    if (reports->was_up)
        reports_write(reports, &reports->present);
    return reports->was_up;
}

void worker_reports_up(struct worker_reports *reports)
{
    reports->was_up = true;
    reports->present.presence = WORKER_UP;
    ev_timer_stop(reports->loop, &reports->waiting);
    (void)reports_write_present(reports);
}

void worker_reports_peer(struct worker_reports *reports, bool is_up)
{
    reports->present.presence = is_up ? WORKER_UP : WORKER_ALONE;
    (void)reports_write_present(reports);
}

void worker_reports_relay(struct worker_reports *reports, bool is_up, const char *why)
{
    struct worker_report *present = &reports->present;

    present->is_relay_lost = !is_up;
    snprintf(present->report.why, sizeof(present->report.why), "%s", is_up ? "" : why);
    (void)reports_write_present(reports);
}

bool worker_reports_usage(struct worker_reports *reports, const struct worker_usage_counts *usage)
{
    reports->present.usage = *usage;
    return reports_write_present(reports);
}

void worker_reports_down(struct worker_reports *reports, enum gt_end_reason cause,
                         enum gt_code code, const char *why)
{
    if (!reports->was_up && code != GT_CODE_BYE) /* an operator who closed it knows */
        reports_send(reports, kind_of(cause), code, true, why);
    worker_reports_deinit(reports);
}

int worker_report_receive(int fd, struct worker_report *ret)
{
    uint8_t bytes[WORKER_REPORT_SIZE];

    ssize_t n = read(fd, bytes, sizeof(bytes));
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return WORKER_REPORT_E_NONE;
    bool is_valid = n == (ssize_t)sizeof(bytes) && worker_report_decode(bytes, ret);
    return is_valid ? 0 : WORKER_REPORT_E_END;
}
