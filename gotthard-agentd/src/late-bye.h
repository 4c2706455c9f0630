/* SPDX-License-Identifier: ISC */
/*
 * A late BYE: sent by the listener for a worker that was killed or could not reach the relay. The
 * listener registers at the relay in the worker's place and sends BYE, so that the operator is
 * notified at once instead of after the resume window.
 */
#pragma once

#include <ev.h>

#include "gotthard/base/list.h"
#include "gotthard/base/proxy.h"
#include "gotthard/crypto/key.h"
#include "gotthard/net/backoff.h"
#include "gotthard/proto/control.h"
#include "target.h"

struct late_bye;
/* BYE is sent, or given up: the last callback. The owner frees it inside this callback or later. */
typedef void (*late_bye_fn)(void *userdata, struct late_bye *late_bye);

enum late_bye_state {
    LATE_BYE_SENDING, /* a control connection is dialed, or sends BYE */
    LATE_BYE_WAITING, /* for the next attempt */
    LATE_BYE_DONE,    /* on_end is due */
};

struct late_bye {
    struct gt_list link; /* the owner's list */
    struct ev_loop *loop;
    late_bye_fn on_end;
    void *userdata;
    enum late_bye_state state;
    struct target relay;
    struct gt_proxy proxy; /* on the way to it */
    char device[GT_NAME_MAX + 1];
    uint8_t client_key[GT_KEY_SIZE], rid[GT_RID_SIZE];
    char *session_file_path; /* owned; NULL: none */
    enum gt_code code;
    double give_up_at; /* seconds of gt_clock() */
    struct gt_control_connection *control;
    struct gt_backoff backoff;
    ev_timer due; /* the control connection must not be freed inside its own callbacks */
};

struct late_bye_settings { /* copied */
    const struct target *relay;
    const struct gt_proxy *proxy; /* on the way to it; NULL: none */
    const char *device;
    const uint8_t *client_key;     /* K_rc, GT_KEY_SIZE */
    const uint8_t *rid;            /* GT_RID_SIZE */
    const char *session_file_path; /* removed after BYE is sent or given up; NULL: none */
    enum gt_code code;             /* of the BYE: BYE, NEW_PROCESS, WITHDRAWN */
    unsigned give_up_after_ms;     /* after this time no operator is waiting */
};

/* Begins to send. -ENOMEM. */
int late_bye_new(struct ev_loop *loop, const struct late_bye_settings *settings, late_bye_fn on_end,
                 void *userdata, struct late_bye **ret) GT_MUST_CHECK;
/* Gives up without a callback. The session file stays for the next listener, if BYE was not sent.
 * Takes NULL. */
struct late_bye *late_bye_free(struct late_bye *late_bye);
