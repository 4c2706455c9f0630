/* SPDX-License-Identifier: ISC */
/*
 * The open sessions: starts them, restores those of an earlier listener, counts them by operator,
 * closes them on request, and withdraws those that are no longer granted (recheck.h). Sends a late
 * BYE for each worker that could not send its own.
 */
#pragma once

#include "expiry-clock.h"
#include "late-byes.h"
#include "relay-views.h"
#include "reports.h"
#include "request-handler.h"
#include "session.h"
#include "setup.h"

struct sessions {
    struct ev_loop *loop;
    const struct setup *setup; /* keeps; replaced after a reload */
    void (*on_change)(void *userdata);
    void *userdata;
    struct gt_list sessions; /* struct session */
    unsigned n;              /* of processes, including those of sessions that are closing */
    struct session *pending; /* READY: prepared, not started yet; or NULL */
    struct late_byes late_byes;
    struct reports reports; /* of the sessions that are not up yet */
    struct lifelines lifelines;
    char *folder; /* owned; of session files, NULL: none are written */
    struct expiry_clock clock;
    struct relay_views relay_views;
    double begun_at; /* seconds of gt_clock() */
};

/* @setup: keeps. @on_change: a session was started or ended, or a late BYE ended. @publish: for
 * reports. */
void sessions_init(struct sessions *sessions, struct ev_loop *loop, const struct setup *setup,
                   void (*on_change)(void *userdata), reports_publish_fn publish, void *userdata);
/* Frees all sessions; their processes continue. */
void sessions_deinit(struct sessions *sessions);
/* Opens the folder of session files, the state directory or the runtime directory of the service
 * manager. Restores the live sessions of an earlier listener from both, withdraws those that are no
 * longer granted, and sends a late BYE for those whose worker was killed. A folder that others can
 * write is not used (logged), and sessions in it are withdrawn. @n_passed, @is_kept: as
 * lifelines_open(). Returns a negative errno without lifelines. */
int sessions_open(struct sessions *sessions, unsigned n_passed, bool is_kept) GT_MUST_CHECK;

/* Returns the time by which pins expire: the latest of the wall clock, its floor, and the time at
 * which the pin file was written. */
time_t sessions_now(const struct sessions *sessions);
/* Starts the worker of @offer. sessions_start or sessions_cancel follows. -EACCES: the present
 * setup does not grant it, which may be newer than the offer's. Another negative errno: there is no
 * process. */
int sessions_prepare(struct sessions *sessions,
                     const struct request_handler_offer *offer) GT_MUST_CHECK;
/* Sends the pending worker its parameters. On a negative errno its session is closing. */
int sessions_start(struct sessions *sessions, const struct request_handler_offer *offer,
                   const struct gt_session_keys *keys) GT_MUST_CHECK;
/* Closes the pending session. */
void sessions_cancel(struct sessions *sessions);

/* Returns the number of sessions that are not closing: those of @operator_, or all (NULL). */
unsigned sessions_count(const struct sessions *sessions, const char *operator_);
/* Returns true if an operator waits for a session that is not up yet. */
bool sessions_are_awaited(const struct sessions *sessions);
/* Closes the sessions of @close that its operator may close: its own, or every session if
 * @is_admin. Returns the number closed, or -EPERM if it names another operator's session. An
 * operator who waits for a session that is not up yet gets a report with the reason. */
int sessions_close(struct sessions *sessions, const struct gt_close *close, bool is_admin);
/* Closes the oldest session of @operator_ that is not up on both sides: one that has lost its
 * operator, or has not come up within 3 s. Returns false if there is none. */
bool sessions_replace(struct sessions *sessions, const char *operator_);
/* Returns true if no process is left, and every late BYE is sent or given up. */
bool sessions_are_over(const struct sessions *sessions);
/* @why: logged. */
void sessions_close_all(struct sessions *sessions, const char *why);
/* Withdraws sessions that the current setup would not grant. @now: of sessions_now(), for
 * pins that expire. Returns the time at which the next pin of a session expires; 0: none. */
time_t sessions_recheck(struct sessions *sessions, time_t now);
/* Fills the status for a query of @operator_: its own sessions, with @sees_all those of all; of the
 * others their number only. */
void sessions_fill_status(const struct sessions *sessions, const char *operator_, bool sees_all,
                          struct gt_device_status *ret);
/* Logs the status of each session. */
void sessions_log(const struct sessions *sessions);
