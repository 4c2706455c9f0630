/* SPDX-License-Identifier: ISC */
/*
 * Lifelines: pipes that carry nothing. Each worker watches the read end of one, and closes its
 * session when the last write end is closed. Nothing needs to be sent for that, so that it works
 * whatever has ended the owner.
 *
 * of_process: this process has the only write end. It is for sessions without a session file, which
 * another listener could neither find nor close: they end with this one, also by SIGKILL.
 *
 * of_service: the service manager has the write end (its descriptor store, sd_notify(3)). It keeps
 * it while the service restarts, and closes it when the service is stopped. Without a manager that
 * stores descriptors there is none.
 */
#pragma once

#include "gotthard/base/base.h"

struct lifeline {
    int end;  /* the read end, for workers; -1: none */
    int held; /* the write end, while this process has it; else -1 */
};

struct lifelines {
    struct lifeline of_process, of_service;
};

/* @n_passed: descriptors that the manager has passed, from 3 on (gt_notify_listen_fds); takes them.
 * @is_stored: the manager ends the listener alone, and is asked to keep of_service. Returns 0, or
 * the negative errno of pipe2(2). */
int lifelines_open(struct lifelines *lifelines, unsigned n_passed, bool is_stored) GT_MUST_CHECK;
void lifelines_close(struct lifelines *lifelines);
/* Returns the read end for a new worker (borrowed), or -1. @has_file: its session survives this
 * process. */
int lifelines_for_worker(const struct lifelines *lifelines, bool has_file);
