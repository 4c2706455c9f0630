/* SPDX-License-Identifier: ISC */
/*
 * What the thread of a connection to a broker has heard, on its way to the loop: a locked queue,
 * and a bell for the loop. It is bounded, because brokers can talk faster than anybody listens.
 */
#pragma once

#include <ev.h>
#include <pthread.h>

#include "gotthard/message.h"

enum gt_broker_event {
    GT_BROKER_UP,        /* CONNACK: accepted */
    GT_BROKER_GRANTED,   /* one SUBACK */
    GT_BROKER_MESSAGE,   /* a PUBLISH within the limits: topic in text, payload */
    GT_BROKER_PUBLISHED, /* a PUBACK: id, reason; what the reason means in text */
    GT_BROKER_ENDED,     /* always the last: why in text, reason */
};

struct gt_broker_report {
    struct gt_broker_report *next;
    enum gt_broker_event event;
    int id, reason;
    bool is_retained;
    bool is_version; /* ENDED: perhaps because this broker does not speak MQTT 5 */
    char text[GT_TOPIC_MAX + 1];
    size_t n;
    uint8_t payload[];
};

/* @text is cut, @payload copied. NULL: no memory. */
struct gt_broker_report *gt_report_new(enum gt_broker_event event, const char *text,
                                       struct gt_span payload);

struct gt_reports {
    pthread_mutex_t lock;
    struct gt_broker_report *first, **last; /* owned */
    size_t n_bytes;
    struct ev_loop *loop; /* borrows; NULL: closed */
    ev_async *bell;
};

void gt_reports_init(struct gt_reports *reports, struct ev_loop *loop, ev_async *bell);
/* Frees what nobody took. */
void gt_reports_deinit(struct gt_reports *reports);
/* Nobody listens any more; the bell is not rung again. */
void gt_reports_close(struct gt_reports *reports);
/* Takes @report (or NULL). False: dropped, because there are too many, or nobody listens. ENDED
 * always has room. */
bool gt_reports_put(struct gt_reports *reports, struct gt_broker_report *report);
/* The oldest, to be freed by the caller, or NULL. */
struct gt_broker_report *gt_reports_take(struct gt_reports *reports);
