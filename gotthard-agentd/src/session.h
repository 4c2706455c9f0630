/* SPDX-License-Identifier: ISC */
/*
 * A session in the listener: one worker process, its operator, and the services that were granted.
 * The worker is started first and gets its keys later, so that an operator's request is accepted
 * only when there is a process to serve it.
 *
 * Sessions outlive the listener. Where there is a state directory each has a session file, from
 * which the next listener restores it. Closing a session escalates from SIGTERM to SIGKILL.
 */
#pragma once

#include <ev.h>

#include "audit-feed.h"
#include "gotthard/base/list.h"
#include "gotthard/base/token-bucket.h"
#include "lifeline.h"
#include "session-file.h"
#include "worker-events.h"
#include "worker-reports.h"

enum session_state {
    SESSION_READY,       /* the process waits for its parameters */
    SESSION_RUNNING,     /* the parameters are sent; bounded by the lifetime */
    SESSION_CHANGING,    /* WORKER_CHANGE sent: the worker ends the streams of what it lost */
    SESSION_CLOSING,     /* SIGTERM sent: the worker sends BYE to the relay and exits */
    SESSION_WITHDRAWING, /* WORKER_WITHDRAW sent: the same, and the operator reads why */
    SESSION_TERMINATING, /* SIGTERM sent again: the worker exits at once */
    SESSION_KILLED,      /* SIGKILL sent */
};

/* How the worker ended. */
enum session_ending {
    SESSION_ENDED_CLEANLY,    /* BYE sent, or not needed */
    SESSION_ENDED_BYE_UNSENT, /* exited, but could not reach the relay */
    SESSION_ENDED_KILLED,     /* killed by a signal, or exited in the middle of its work */
};

struct session;
/* The worker has exited: the last callback. The owner takes or removes the session file, and frees
 * the session inside this callback or later. */
typedef void (*session_fn)(void *userdata, struct session *session);
/* The worker reports on its way to the relay. */
typedef void (*session_report_fn)(void *userdata, struct session *session,
                                  const struct worker_report *report);

/* The worker reports on a stream, or on the end of its session. */
typedef void (*session_event_fn)(void *userdata, struct session *session,
                                 const struct worker_event *event);

/* A worker that reports more often is not a worker any more: nothing else is received from it. */
#define SESSION_REPORTS_BURST 512
#define SESSION_REPORTS_PER_S 1

struct session {
    struct gt_list link; /* the owner's list */
    struct ev_loop *loop;
    session_fn on_end;
    void *userdata;
    enum session_state state;
    enum session_ending ending; /* valid in on_end */
    char id[2 * 4 + 1]; /* first digits of the rid, as in every log line; "-" before RUNNING */
    struct session_info info;
    bool is_withdrawn;                  /* no longer granted */
    bool is_up;                         /* both sides are at the relay, as far as known */
    bool was_up;                        /* once */
    uint8_t request_id[GT_REQ_ID_SIZE]; /* of its REQ; zeros for a restored session */
    double begun_at;                    /* seconds of gt_clock() */
    int pidfd;                          /* of a restored worker, which is not our child; else -1 */
    int parameters;                     /* write end of the parameters' pipe; -1 after READY */
    int reports;                        /* read end of the reports' pipe; -1: there will be none */
    struct gt_token_bucket report_rate;
    bool has_usage;                   /* it has been up, as far as this listener knows */
    struct worker_usage_counts usage; /* of the latest report */
    char service[GT_SERVICE_MAX + 1]; /* the one requested first; "": unknown */
    session_report_fn on_report;
    struct event_pipe events;
    struct audit_feed *audit;            /* owned; NULL: the session is not for reading the audit */
    session_event_fn on_event;           /* NULL: there is no audit */
    struct worker_event over;            /* the worker's last event; zeros: none */
    char end_why[256];                   /* why the listener has closed it; "": it has not */
    struct session_reports *of_operator; /* the owner's; NULL: none, or the session was up */
    int session_file; /* descriptor, until the file is written; of an anonymous one: kept; -1: none
                       */
    char *session_file_path; /* owned; NULL: no file, or an anonymous one */
    int exit_status;         /* as of waitpid(2), valid in on_end; 0 for a restored worker */
    ev_child child;
    ev_io exited;   /* the pidfd is readable */
    ev_io reported; /* ->reports is readable */
    ev_timer deadline;
};

struct session_settings {
    struct session_info *info;         /* takes, also on failure; pid and rid follow later */
    const uint8_t *request_id;         /* GT_REQ_ID_SIZE */
    const char *service;               /* the one requested first */
    const char *folder;                /* of session files; NULL: the file is anonymous */
    const struct lifelines *lifelines; /* a session without a folder ends with this process */
    session_report_fn on_report;       /* with the userdata of session_new */
    session_event_fn on_event;         /* likewise; NULL: the worker reports no streams */
    const char *audit_folder; /* of the audit that the session is for; NULL: it is for services */
};

/* Starts a worker. The loop must be libev's default loop, the only one with child watchers. Returns
 * a negative errno if there is no process. */
int session_new(struct ev_loop *loop, const struct session_settings *settings, session_fn on_end,
                void *userdata, struct session **ret) GT_MUST_CHECK;
/* Restores the session of an earlier listener. @info: takes, @pidfd: takes, both also on failure.
 * @path: of its session file (copied). @on_event: as in session_settings. -ENOMEM. */
int session_restore(struct ev_loop *loop, struct session_info *info, int pidfd, const char *path,
                    session_fn on_end, session_event_fn on_event, void *userdata,
                    struct session **ret) GT_MUST_CHECK;
/* Sends the worker its parameters. On a negative errno the session is closing; on_end follows. */
int session_start(struct session *session,
                  const struct worker_parameters *worker_parameters) GT_MUST_CHECK;
/* Closes the session: SIGTERM first, on_end follows. @why: logged. Does nothing if it is closing.
 */
void session_close(struct session *session, const char *why);
/* The same for a session that is no longer granted: it ends within a second, if need be by SIGKILL.
 */
void session_withdraw(struct session *session, const char *why);
/* The same for a session that continues with another grant: the worker ends the streams of services
 * and targets that it lost. One that does not within two seconds is withdrawn. @services: takes,
 * @permit: as in session_info. */
void session_change(struct session *session, struct targets *services, const char *permit,
                    const char *why);
bool session_is_closing(const struct session *session);
const char *session_state_text(enum session_state state);
/* Removes the session file, if there is one. */
void session_remove_file(struct session *session);
/* Frees the session and leaves its process and its file alone. No callback follows. Takes NULL. */
struct session *session_free(struct session *session);
