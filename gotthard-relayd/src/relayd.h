/* SPDX-License-Identifier: ISC */
/*
 * The relay as a whole: its sockets, its threads, its signals, and its life from start to drain, or
 * to the next image of it (succession.h).
 */
#pragma once

#include "door.h"
#include "gotthard/notify.h"
#include "heir.h"
#include "planes.h"
#include "registry.h"
#include "upgrade.h"

enum {
    RELAYD_E_LISTEN = 1, /* the main port cannot be had; logged */
    RELAYD_E_SMALL,      /* too few descriptors to do anything useful; logged */
};

struct relayd_call {                   /* all borrowed */
    const struct gt_config_args *args; /* for reloads */
    char *const *argv;                 /* for upgrades: without what one image tells the next */
    struct heir *heir;                 /* what an earlier image left, if one did */
};

/* Takes @config and @keys. Returns when the relay has ended in order; an upgrade does not end it.
 */
int relayd_run(struct gt_config *config, struct settings_keys *keys,
               const struct relayd_call *call) GT_MUST_CHECK;

enum relayd_state {
    RELAYD_RUNNING,
    RELAYD_UPGRADING, /* the installed program has rehearsed: it is executed outside the loop */
    RELAYD_DRAINING,  /* told to stop: streams may end in peace */
    RELAYD_CLOSING,   /* sessions are over, their last frames are on their way */
};

struct relayd {
    enum relayd_state state;
    struct gt_config *config;
    const struct settings *settings;
    const struct relayd_call *call;
    struct settings_keys keys;
    struct ev_loop *loop;
    struct gt_tls_context *tls;
    struct quota quota;
    struct planes planes;
    struct mailbox inbox;
    struct registry registry;
    struct member_host members;
    struct stranger_host strangers;
    struct door door;
    struct gt_watchdog watchdog;
    struct upgrade upgrade;
    uint16_t port; /* the main one */
    size_t n_most; /* sessions and connections at once, since memory was given back */
    ev_signal on_term, on_int, on_hup, on_usr1, on_usr2;
    ev_timer stop;
    ev_prepare before_sleep;
};

/* For those parts of it that live in other files. */
void relayd_on_accept(void *userdata, int fd, const struct gt_addr *addr);
void relayd_be_ready(const struct relayd *relayd);
