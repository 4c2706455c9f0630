/* SPDX-License-Identifier: ISC */
/*
 * All data threads: creation, start and pause. While they are paused, their data belongs to the
 * control thread and no payload moves.
 */
#pragma once

#include "data/data-thread.h"

#define DATA_THREADS_MAX 64

struct data_threads {
    struct data_thread *all[DATA_THREADS_MAX];
    size_t n;
    struct mailbox *outbox; /* borrowed; of the control thread */
};

/* Creates @n (at most DATA_THREADS_MAX) with the same settings but for the index; none is running
 * yet. On an error those that were created remain for data_threads_free. */
int data_threads_new(struct data_threads *data_threads, size_t n,
                     const struct data_thread_settings *settings) GT_MUST_CHECK;
/* A negative errno. */
int data_threads_start(struct data_threads *data_threads) GT_MUST_CHECK;
/* Pauses the threads, and returns when no message is in transit in either direction. */
void data_threads_pause(struct data_threads *data_threads);
void data_threads_resume(struct data_threads *data_threads);
/* Applies new limits. */
void data_threads_change(struct data_threads *data_threads,
                         const struct data_thread_limits *limits);
/* Stops and frees the threads. */
void data_threads_free(struct data_threads *data_threads);
