/* SPDX-License-Identifier: ISC */
/*
 * The relay as a whole: its parts, and its life from the start to the end, or to the next image of
 * it in an upgrade. Everything here belongs to the control thread.
 */
#pragma once

#include "control/main-listener.h"
#include "control/proof.h"
#include "control/registry.h"
#include "data/data-threads.h"
#include "gotthard/base/notify.h"
#include "gotthard/base/reload-server.h"
#include "limits/access.h"
#include "settings.h"
#include "upgrade/rehearsal.h"
#include "upgrade/restore.h"

enum {
    RELAYD_E_LISTEN = 1,          /* the main port is not available; logged */
    RELAYD_E_TOO_FEW_DESCRIPTORS, /* for useful work; logged */
};

struct relayd_invocation {             /* all borrowed */
    const struct gt_config_args *args; /* for reloads */
    char *const *argv;                 /* for upgrades: the arguments of the first start */
    struct restore *restore;           /* state of the previous image, if there is one */
};

/* Runs the relay until it has ended. An upgrade does not return; the next image runs instead. Takes
 * @config and the content of @admission. E_LISTEN, E_TOO_FEW_DESCRIPTORS, or a negative errno. */
int relayd_run(struct gt_config *config, struct admission *admission,
               const struct relayd_invocation *invocation) GT_MUST_CHECK;

enum relayd_state {
    RELAYD_RUNNING,
    RELAYD_UPGRADING, /* the rehearsal has succeeded; the program is executed outside the loop */
    RELAYD_DRAINING,  /* no new connections; waits for streams to end */
    RELAYD_CLOSING,   /* sessions have ended; their last frames are being sent */
    RELAYD_ENDED,     /* the loop ends */
};
#define RELAYD_N_STATES 5

enum relayd_event {
    RELAYD_TERMINATED,     /* SIGTERM or SIGINT */
    RELAYD_REHEARSED,      /* the installed program accepted the state */
    RELAYD_UPGRADE_FAILED, /* it could not be executed */
    RELAYD_DONE,           /* nothing is left to wait for in this state */
    RELAYD_TIMED_OUT,      /* the deadline of the state has passed */
};
#define RELAYD_N_EVENTS 5

struct relayd {
    enum relayd_state state;
    struct gt_config *config;
    const struct settings *settings;
    const struct relayd_invocation *invocation;
    struct admission admission;
    struct access access;
    ev_timer access_tick; /* active while the access list is incomplete or not stored */
    struct ev_loop *loop;
    struct gt_tls_context *tls;
    struct quota quota;
    struct data_threads data_threads;
    struct mailbox inbox;
    struct registry registry;
    struct seen_binders seen_binders;
    struct client_host clients;
    struct preauth_host preauths;
    struct main_listener main_listener;
    struct gt_watchdog watchdog;
    struct rehearsal rehearsal;
    struct gt_reload_server reload_server;
    uint16_t port; /* the main port */
    struct {
        size_t n_sessions, n_pairs; /* that the service manager knows of */
        ev_timer pause;             /* until the next text */
    } notified;
    size_t n_peak; /* sessions and connections at once, since memory was last trimmed */
    ev_signal on_term, on_int, on_hup, on_usr1, on_usr2;
    ev_timer deadline; /* of the state */
    ev_prepare before_sleep;
    uint64_t n_wakeups; /* libev's count has 32 bits */
};

/* --- relayd-notify.c -------------------------------------------------------------------------- */

void relayd_init_notify(struct relayd *relayd);
/* Sends READY=1 and the status text to the service manager. */
void relayd_notify_ready(struct relayd *relayd);
/* Sends the status text if its numbers have changed, at most once a second. Once per turn of the
 * loop. */
void relayd_notify_changes(struct relayd *relayd);

/* --- relayd-states.c -------------------------------------------------------------------------- */

void relayd_init_states(struct relayd *relayd);
/* Changes the state as its table has it. No effect for an event that the state does not list. */
void relayd_handle(struct relayd *relayd, enum relayd_event event);
/* Handles DONE if the state is finished. Once per turn of the loop. */
void relayd_check_done(struct relayd *relayd);

/* --- relayd-connections.c --------------------------------------------------------------------- */

/* Sets the callbacks through which connections and messages pass from part to part. A negative
 * errno. */
int relayd_init_connections(struct relayd *relayd) GT_MUST_CHECK;
/* Handles the part of an access list that @client has sent: charges @client for it, and answers
 * unless further parts are awaited. */
void relayd_on_access(struct relayd *relayd, struct client *client, struct gt_span part);
/* Admits clients by ->admission and the access list from now on. Ends the connections and sessions
 * of those that it no longer admits. */
void relayd_apply_admission(struct relayd *relayd);
/* The callback of the main listener. */
void relayd_on_accept(void *userdata, int fd, const struct gt_addr *addr);

/* --- relayd-settings.c ------------------------------------------------------------------------ */

/* Applies the settings to all parts but the data threads. */
void relayd_apply_settings(struct relayd *relayd);
void relayd_apply_log_level(const struct relayd *relayd);
/* Applies the keys and refused identities of the configuration, if this version can read it, and no
 * other setting. Returns false, with the reason in @ret_error (GT_CONFIG_ERROR_MAX), if the list of
 * refused identities or the authority would be lost. */
bool relayd_reload_admission(struct relayd *relayd, char *ret_error) GT_MUST_CHECK;
/* SIGHUP. ->data of @signal is the relay. */
void relayd_on_reload(struct ev_loop *loop, ev_signal *signal, int revents);
