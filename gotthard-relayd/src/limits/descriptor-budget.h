/* SPDX-License-Identifier: ISC */
/*
 * Divides the process's file descriptors among connections, kernel pipes and the relay's own needs.
 * It is computed once, at start: later connections beyond it are rejected one by one (quota.h), and
 * joined pairs are never short of descriptors.
 */
#pragma once

#include <stddef.h>

#include "gotthard/base/base.h"

struct descriptor_budget_request {
    size_t n_descriptors_max;  /* 0: as many as the system allows */
    size_t n_data_threads;     /* 0: one per core, at most 8 */
    size_t n_data_threads_max; /* more threads than this are not started */
    size_t n_fds_per_thread;   /* a data thread's own descriptors */
};

struct descriptor_budget {
    size_t n_data_threads;
    size_t n_connections; /* descriptors of connections and of sessions' listening sockets */
    size_t n_pipes;       /* kernel pipes of one data thread, at least 1 */
};

enum {
    DESCRIPTOR_BUDGET_E_TOO_SMALL = 1 /* too few descriptors for useful work; logged */
};

/* Raises the soft limit of descriptors (RLIMIT_NOFILE) to the hard one, and divides them.
 * E_TOO_SMALL. */
int descriptor_budget_compute(const struct descriptor_budget_request *request,
                              struct descriptor_budget *ret) GT_MUST_CHECK;
/* Divides @n_descriptors, for @n_data_threads (at least 1) of @n_fds_per_thread each. E_TOO_SMALL.
 * Pure but for the log. */
int descriptor_budget_divide(size_t n_descriptors, size_t n_data_threads, size_t n_fds_per_thread,
                             struct descriptor_budget *ret) GT_MUST_CHECK;
