/* SPDX-License-Identifier: ISC */
/*
 * The reports of sessions that are not up yet, on their way to the operators: seals and publishes
 * them, and repeats the latest one of each session after it was sent and after the broker was lost.
 * The last report of a session outlives it for a minute.
 */
#pragma once

#include <ev.h>

#include "gotthard/base/list.h"
#include "gotthard/signaling/report.h"
#include "gotthard/signaling/topic.h"

/* Publishes a message, or drops it if there is no broker. */
typedef void (*reports_publish_fn)(void *userdata, const char *topic, struct gt_span payload);

struct reports {
    struct ev_loop *loop;
    reports_publish_fn publish;
    void *userdata;
    struct gt_list of_sessions; /* struct session_reports */
    ev_timer repeat;
    unsigned n_repeats; /* since the last report, or since the broker connection is up */
};

struct session_reports {
    struct gt_list link;
    uint8_t key[GT_KEY_SIZE];     /* K_rep */
    char topic[GT_TOPIC_MAX + 1]; /* the rsp topic */
    struct gt_report latest;      /* seq 0: none yet */
    double drop_at;               /* seconds of gt_clock(); 0: its session is open */
};

void reports_init(struct reports *reports, struct ev_loop *loop, reports_publish_fn publish,
                  void *userdata);
/* Drops all. */
void reports_deinit(struct reports *reports);

/* For a new session. @topic, @key (K_rep): copied. Returns NULL if there is no memory: the session
 * is not reported about. */
struct session_reports *reports_add(struct reports *reports, const char *topic,
                                    const uint8_t key[static GT_KEY_SIZE]);
/* Publishes @report with the next seq, and again within the next 15 s, because a subscription of
 * the operator may work some time after it was granted (AWS IoT Core). Does nothing after the last
 * one. */
void reports_send(struct reports *reports, struct session_reports *of_session,
                  const struct gt_report *report);
/* The session is up: frees @of_session. Takes NULL; returns NULL. */
struct session_reports *reports_drop(struct session_reports *of_session);
/* The session has ended: keeps the last report for a minute. Takes NULL. */
void reports_close(struct reports *reports, struct session_reports *of_session);
/* The broker connection is up: publishes the latest reports now, and again within the next 15 s,
 * because the operators may not have returned to the broker yet. */
void reports_repeat(struct reports *reports);
