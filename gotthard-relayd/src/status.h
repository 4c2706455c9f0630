/* SPDX-License-Identifier: ISC */
/*
 * A snapshot of the relay's counters, and its log lines: one for the relay, one per data thread,
 * one per session. Collecting is separate from logging, so that other formats can be added.
 */
#pragma once

#include "control/registry.h"
#include "data/data-threads.h"

struct status_sources { /* all borrowed */
    const struct registry *registry;
    const struct client_host *clients;
    struct quota *quota;
    const struct data_threads *data_threads;
    uint64_t n_wakeups; /* of the control thread */
};

struct status_thread {
    unsigned n_sessions, n_tickets, n_pairs, n_pipes;
    uint64_t n_bytes, n_wakeups;
};

struct status {
    size_t n_sessions, n_clients, n_ports_in_use, n_ports;
    struct quota_counts quota;
    uint64_t n_created, n_unexpected; /* sessions; events that no state expects */
    uint64_t n_wakeups;               /* of all threads */
    unsigned n_pairs, n_tickets;      /* of all data threads */
    size_t n_threads;
    struct status_thread threads[DATA_THREADS_MAX];
};

/* Reads the counters. Those of running data threads are read one by one, so the sums may be
 * slightly inconsistent. */
void status_collect(const struct status_sources *sources, struct status *ret);
#define STATUS_LINE 640 /* bytes; enough for every line */
/* Write one log line to @ret, without a prefix. */
void status_format_relay(const struct status *status, char ret[static STATUS_LINE]);
void status_format_thread(const struct status *status, size_t index, char ret[static STATUS_LINE]);
void status_format_session(const struct session_status *session, char ret[static STATUS_LINE]);
/* Collects and logs everything. */
void status_log(const struct status_sources *sources);
