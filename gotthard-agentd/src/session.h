/* SPDX-License-Identifier: ISC */
/*
 * A session as the listener sees it: one worker process, who it is for, and what it was granted.
 * The worker is this very program, run again (/proc/self/exe, so that it is the same version even
 * while an upgrade replaces the file); it stands ready first and gets its keys after, so that an
 * operator is only told yes when there is a process to serve him.
 *
 * The listener's end does not end its sessions: where there is a runtime folder they leave a
 * record, by which the next listener adopts them. Ending one goes from asking to insisting.
 */
#pragma once

#include <ev.h>

#include "gotthard/list.h"
#include "record.h"

enum session_state {
    SESSION_READY,     /* the process is there and waits for its hand-over */
    SESSION_RUNNING,   /* it has all it needs; the lifetime bounds it */
    SESSION_CLOSING,   /* SIGTERM: it says goodbye to the relay and ends */
    SESSION_INSISTING, /* SIGTERM again: it ends at once */
    SESSION_KILLED,    /* SIGKILL */
};

struct session;
/* Its process has ended. Frees itself after this. */
typedef void (*session_fn)(void *userdata, struct session *session);

struct session {
    struct gt_list link; /* the listener's list */
    struct ev_loop *loop;
    session_fn on_end;
    void *userdata;
    enum session_state state;
    char device[GT_NAME_MAX + 1], operator_[GT_NAME_MAX + 1];
    char id[2 * 4 + 1]; /* first digits of the rid, as in every log line; "-" before it has one */
    uint8_t rid[GT_RID_SIZE];
    bool has_pin;
    uint8_t fingerprint[GT_KEY_SIZE]; /* of the pin it was granted by */
    struct targets services;          /* owned: what was granted */
    struct target relay;              /* where it went; port 0: unknown */
    enum {
        SESSION_SAID_GOODBYE, /* or had nobody to say it to */
        SESSION_UNHEARD,      /* it ended in order, but without a way to the relay */
        SESSION_WAS_KILLED,
    } ending;          /* of its process */
    double begun_at;   /* by gt_clock() */
    double lifetime_s; /* from then on */
    pid_t pid;
    int pidfd;       /* of an adopted one, which is no child of ours; else -1 */
    int pipe;        /* our end of the hand-over */
    int record;      /* until it is written */
    char *record_at; /* owned; NULL: none is kept. Who takes it in on_end keeps the file */
    ev_child child;
    ev_io ended; /* of the pidfd */
    ev_timer deadline;
};

struct session_settings {
    const char *device, *operator_;
    const struct gt_pin *pin;       /* or NULL */
    const struct targets *services; /* copied */
    const char *folder;             /* of the records, or NULL */
};

/* A process that stands ready. Negative: no process. The loop must be libev's default one, which
 * alone hears of children. */
int session_new(struct ev_loop *loop, const struct session_settings *settings, session_fn on_end,
                void *userdata, struct session **ret) GT_MUST_CHECK;
/* A worker of a listener before us. @pidfd: takes, also on failure. */
int session_adopt(struct ev_loop *loop, const struct record *record, int pidfd, const char *path,
                  session_fn on_end, void *userdata, struct session **ret) GT_MUST_CHECK;
/* Hands over. Negative: it could not; the process is on its way out and on_end will follow. */
int session_begin(struct session *session, const struct handover *handover) GT_MUST_CHECK;
/* Asks it to end, politely first. @why for the log. */
void session_close(struct session *session, const char *why);
bool session_is_closing(const struct session *session);
const char *session_state_text(enum session_state state);
/* Forgets the process without ending it. Takes NULL. */
struct session *session_free(struct session *session);
