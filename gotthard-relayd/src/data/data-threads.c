/* SPDX-License-Identifier: ISC */
/*
 * A pause is requested from all threads before it waits for any, so that it takes as long as the
 * slowest of their turns. A message may cause messages: they are delivered until no mailbox has
 * one.
 */
#include "data/data-threads.h"

#include "gotthard/base/log.h"

int data_threads_new(struct data_threads *data_threads, size_t n,
                     const struct data_thread_settings *settings)
{
    struct data_thread_settings each = *settings;

    for (*data_threads = (struct data_threads){.outbox = settings->outbox}; data_threads->n < n;
         data_threads->n++) {
        each.index = (unsigned)data_threads->n;
        int r = data_thread_new(&each, &data_threads->all[data_threads->n]);
        if (r)
            return r;
    }
    return 0;
}

int data_threads_start(struct data_threads *data_threads)
{
    for (size_t i = 0; i < data_threads->n; i++) {
        int r = data_thread_start(data_threads->all[i]);

        if (r)
            return r;
    }
    return 0;
}

static bool data_threads_have_no_messages(struct data_threads *data_threads)
{
    for (size_t i = 0; i < data_threads->n; i++)
        if (!mailbox_is_empty(&data_threads->all[i]->inbox))
            return false;
    return mailbox_is_empty(data_threads->outbox);
}

void data_threads_pause(struct data_threads *data_threads)
{
    for (size_t i = 0; i < data_threads->n; i++)
        data_thread_request_pause(data_threads->all[i]);
    for (size_t i = 0; i < data_threads->n; i++)
        data_thread_await_pause(data_threads->all[i]);
    do {
        for (size_t i = 0; i < data_threads->n; i++)
            data_thread_deliver(data_threads->all[i]);
        mailbox_drain(data_threads->outbox);
    } while (!data_threads_have_no_messages(data_threads));
}

void data_threads_resume(struct data_threads *data_threads)
{
    for (size_t i = 0; i < data_threads->n; i++)
        data_thread_resume(data_threads->all[i]);
}

void data_threads_change(struct data_threads *data_threads, const struct data_thread_limits *limits)
{
    for (size_t i = 0; i < data_threads->n; i++)
        if (data_thread_change_limits(data_threads->all[i], limits))
            gt_warn("thread=%zu keeps its previous limits reason=\"out of memory\"", i);
}

void data_threads_free(struct data_threads *data_threads)
{
    for (size_t i = 0; i < data_threads->n; i++)
        data_threads->all[i] = data_thread_free(data_threads->all[i]);
    data_threads->n = 0;
}
