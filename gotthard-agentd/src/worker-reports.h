/* SPDX-License-Identifier: ISC */
/*
 * The reports of a worker: about its way to the relay, before the session is up, and afterwards
 * whether its operator and its relay are there, and its streams and bytes. They go to the listener
 * over a pipe, because the worker has no MQTT; the listener seals and publishes those of the first
 * kind (reports.h). A worker handles the bytes of its operator, and the listener has the keys: it
 * checks everything that a worker sends. A worker whose listener has exited reports to nowhere.
 */
#pragma once

#include <ev.h>

#include "gotthard/net/host-port.h"
#include "gotthard/relay/control-connection.h"
#include "gotthard/signaling/report.h"

#define WORKER_REPORTS_FD 5 /* the worker's end of the pipe */

enum worker_presence {
    WORKER_JOINING, /* ->report has the result so far */
    WORKER_UP,      /* both sides are at the relay */
    WORKER_ALONE,   /* was up, and the operator is lost */
};

struct worker_usage_counts {
    uint16_t n_streams;
    uint64_t n_up, n_down; /* bytes since the beginning */
};

struct worker_report {
    uint8_t presence;   /* enum worker_presence */
    bool is_relay_lost; /* not JOINING: connecting to the relay again, because of report.why */
    struct worker_usage_counts usage;
    struct gt_report report; /* JOINING; its seq is 0 */
};

/* The encoding has always this many bytes, fewer than PIPE_BUF: it is written and read whole. */
#define WORKER_REPORT_SIZE 512
void worker_report_encode(const struct worker_report *report,
                          uint8_t ret[static WORKER_REPORT_SIZE]);
/* Returns false for anything but exactly one encoded report of a known kind. */
bool worker_report_decode(const uint8_t bytes[static WORKER_REPORT_SIZE],
                          struct worker_report *ret);

struct worker_reports {
    struct ev_loop *loop;
    int fd; /* owned; -1: no listener */
    bool was_up;
    struct worker_report present; /* UP or ALONE, and the latest usage; from was_up on */
    const struct gt_host_port *relay;
    ev_timer waiting; /* delays the report AT_RELAY: most operators are there within a moment */
};

/* @fd: takes; -1: none. @relay: keeps. */
void worker_reports_init(struct worker_reports *reports, struct ev_loop *loop, int fd,
                         const struct gt_host_port *relay);
void worker_reports_deinit(struct worker_reports *reports);
/* As the events of the tunnel with these names. */
void worker_reports_retry(struct worker_reports *reports, enum gt_end_reason cause,
                          const char *why);
void worker_reports_waiting(struct worker_reports *reports);
void worker_reports_up(struct worker_reports *reports);
void worker_reports_peer(struct worker_reports *reports, bool is_up);
/* The connection to the relay was lost, because of @why, or has returned. */
void worker_reports_relay(struct worker_reports *reports, bool is_up, const char *why);
/* Returns false if the session is not up, so that nothing was written. */
bool worker_reports_usage(struct worker_reports *reports, const struct worker_usage_counts *usage);
void worker_reports_down(struct worker_reports *reports, enum gt_end_reason cause,
                         enum gt_code code, const char *why);

enum {
    WORKER_REPORT_E_NONE = 1, /* none now */
    WORKER_REPORT_E_END,      /* there will be none, or it was malformed */
};
/* The listener's end, which does not block. Returns 0 or E_x. */
int worker_report_receive(int fd, struct worker_report *ret) GT_MUST_CHECK;
