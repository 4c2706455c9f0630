/* SPDX-License-Identifier: ISC */
/*
 * The device as operators reach it: its setup, its presence at the broker, its request handler and
 * its sessions. Reloads replace the setup as a whole or not at all. Knows no signals and no exit
 * codes; those are the process's (agentd.c).
 */
#pragma once

#include "access.h"
#include "presence.h"
#include "sessions.h"
#include "status.h"

struct device_events {
    /* The connection to the broker, or the number of sessions, has changed. */
    void (*on_change)(void *userdata);
    /* After device_publish_offline: "offline" has reached the broker, or cannot. */
    void (*on_offline)(void *userdata);
};

struct device {
    struct ev_loop *loop;
    const struct device_events *events;
    void *userdata;
    const struct gt_config_args *args;       /* keeps, for reloads */
    struct setup *setup;                     /* owned */
    struct request_handler *request_handler; /* owned; of the connection in use */
    struct request_handler *renamed;         /* owned; of its replacement, for other topics */
    uint64_t expiry_due_ms; /* the next warning about the certificate's end; 0: not started */
    char renewal_error[GT_CONFIG_ERROR_MAX]; /* why the renewed certificates are not used */
    char fault[GT_CONFIG_ERROR_MAX];         /* why the present files are not in use; or empty */
    uint64_t fault_due_ms;                   /* the next line about it */
    struct presence presence;
    struct sessions sessions;
    struct access access; /* under policy list */
    struct audit audit;
    ev_periodic expiry; /* of the next pin of a session, by the wall clock */
    bool is_accepting;  /* new sessions */
};

/* @setup: takes. @args: keeps. */
void device_init(struct device *device, struct ev_loop *loop, struct setup *setup,
                 const struct gt_config_args *args, const struct device_events *events,
                 void *userdata);
/* Before device_start(): the present files are not usable because of @fault. Empty: they are. */
void device_set_fault(struct device *device, const char *fault);
/* Restores the sessions of an earlier listener and connects to the broker. A negative errno. */
int device_start(struct device *device) GT_MUST_CHECK;
/* Returns true if SIGTERM leaves the sessions open: the manager ends this process alone, as its
 * configuration declares, and the next listener can find them. */
bool device_keeps_sessions(const struct device *device);
/* Records an event of the device in the audit. */
void device_note(struct device *device, enum gt_audit_kind kind, const char *reason);
/* Publishes "offline" if it can. The workers' processes continue, if they have session files. */
void device_deinit(struct device *device);

/* Refuses new sessions from now on. */
void device_stop_accepting(struct device *device);
/* Publishes "offline"; on_offline follows, possibly inside this call. */
void device_publish_offline(struct device *device);

enum { DEVICE_E_UNCHANGED = 1 };
/* Loads the configuration again. E_UNCHANGED: it is invalid (logged, with the reason in
 * @ret_error), and the old one stays in use. A negative errno: the device cannot connect any more.
 */
int device_reload(struct device *device, char ret_error[static GT_CONFIG_ERROR_MAX]) GT_MUST_CHECK;
/* Returns true if the last good configuration is in use, and the present files are tried again. */
bool device_is_retrying(const struct device *device);
/* Rotates expired epochs, closes sessions whose pin has expired, and tries the present files again.
 * Call it about every 30 s, or more often if it is retrying. A negative errno as device_reload().
 */
int device_tick(struct device *device) GT_MUST_CHECK;

const char *device_name(const struct device *device);
struct agent_status device_status(const struct device *device);
