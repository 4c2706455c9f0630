/* SPDX-License-Identifier: ISC */
/*
 * This program as a child with other arguments, in a process group of its own. Its output comes as
 * whole lines. Standard input is empty, and its environment is that of this process.
 */
#pragma once

#include <ev.h>
#include <sys/types.h>

#include "gotthard/base/bytes.h"

#define CHILD_LINE_MAX 16384 /* bytes; a longer line comes in parts */

struct child_process;

struct child_events {
    /* A line without its end; also the last one without an end. */
    void (*on_line)(void *userdata, bool is_error, struct gt_span line);
    /* The exit status, or 128 and the number of the signal; all lines have come. Last callback:
     * free the child inside it or later. */
    void (*on_end)(void *userdata, int status);
};

struct child_settings {
    char *const *argv; /* ends with NULL; the first is replaced by the path of this program */
    bool shares_error; /* standard error is that of this process */
};

/* @loop: libev's default loop. Returns 0 or a negative errno. */
int child_process_new(struct ev_loop *loop, const struct child_settings *settings,
                      const struct child_events *events, void *userdata,
                      struct child_process **ret) GT_MUST_CHECK;
/* Sends a signal to its process group. */
void child_process_signal(const struct child_process *child, int number);
/* Kills it if it runs. Takes NULL; returns NULL. */
struct child_process *child_process_free(struct child_process *child);
