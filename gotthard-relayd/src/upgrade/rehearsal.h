/* SPDX-License-Identifier: ISC */
/*
 * Replaces the running program by the installed one, in the same process and without an
 * interruption. First the installed program is started beside this one, to rehearse with a copy of
 * the state. It is executed in place of this one only if the rehearsal has succeeded.
 *
 * A failure before that last call leaves the relay unchanged. Nothing here blocks.
 */
#pragma once

#include <ev.h>
#include <sys/stat.h>

#include "snapshot/memfd.h"

/* Options from one image to the next, with the number of a descriptor. Not documented. */
#define UPGRADE_REHEARSE  "--rehearse"
#define UPGRADE_TAKE_OVER "--take-over"

enum rehearsal_state {
    REHEARSAL_IDLE,
    REHEARSAL_REHEARSING, /* the child has 10 s */
    REHEARSAL_CANCELLED,  /* the child was killed and has not exited yet */
};

struct rehearsal {
    enum rehearsal_state state;
    struct ev_loop *loop;  /* the default loop, because ev_child needs it */
    char *path;            /* of the program, owned; NULL: unknown */
    char *const *argv;     /* of the first start, borrowed */
    struct stat rehearsed; /* the file of the program in the rehearsal */
    struct memfd memfd;    /* the state for the rehearsal */
    int reason;            /* a pipe from the child: why its configuration is not usable; or -1 */
    ev_child child;
    ev_timer deadline;
    memfd_write_fn write; /* writes the present state */
    void (*on_rehearsed)(void *userdata);
    /* @status: GT_EXIT_CONFIGURATION, or another exit status for all other reasons. */
    void (*on_rejected)(void *userdata, int status, const char *reason);
    void *userdata;
};

/* Keeps @loop and @argv. The caller sets ->write, the callbacks and ->userdata. */
void rehearsal_init(struct rehearsal *rehearsal, struct ev_loop *loop, char *const *argv);
void rehearsal_deinit(struct rehearsal *rehearsal);

/* Starts a rehearsal; must be IDLE. Exactly one of the callbacks follows, from the loop or before
 * this returns. */
void rehearsal_start(struct rehearsal *rehearsal);
/* Cancels a rehearsal without a callback. No effect if none is in progress. */
void rehearsal_cancel(struct rehearsal *rehearsal);
/* Executes the program with the present state. Returns only if that failed, with the reason
 * (static); nothing has changed then. */
const char *rehearsal_execute(struct rehearsal *rehearsal);

/* In the child. Sends the reason of its failure, one line, to the parent. No effect if that is an
 * older version, which reports the exit status alone. */
void rehearsal_send_reason(const char *reason);
