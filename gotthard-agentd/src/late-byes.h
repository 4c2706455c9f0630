/* SPDX-License-Identifier: ISC */
/*
 * The late BYEs that are being sent (late-bye.h), for sessions whose worker could not send its own.
 * They go to relays of the present configuration only: a session file must not make the agent
 * connect anywhere else.
 */
#pragma once

#include "late-bye.h"
#include "session-info.h"
#include "setup.h"

struct late_byes {
    struct gt_list list; /* struct late_bye */
    struct ev_loop *loop;
    void (*on_change)(void *userdata);
    void *userdata;
};

/* @on_change: one was sent, or given up. */
void late_byes_init(struct late_byes *late_byes, struct ev_loop *loop,
                    void (*on_change)(void *userdata), void *userdata);
/* The session files of those that were not sent stay for the next listener. */
void late_byes_deinit(struct late_byes *late_byes);
/* Begins to send. @code: of the BYE. @path: of the session file, removed when BYE is sent or given
 * up; NULL: none. Logs a failure. */
void late_byes_send(struct late_byes *late_byes, const struct setup *setup,
                    const struct session_info *info, enum gt_code code, const char *path);
