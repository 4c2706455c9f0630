/* SPDX-License-Identifier: ISC */
/*
 * A data thread, and both ends of its mailbox. The control thread creates everything that it owns
 * before the thread starts, and frees it after the thread has ended. In between only the data
 * thread accesses it, except while it is paused.
 */
#include "data/data-thread.h"

#include <signal.h>

#include "data/session-port.h"
#include "gotthard/base/log.h"

static void data_thread_on_message(void *userdata, struct message *message)
{
    struct data_thread *data_thread = userdata;

    switch (message->kind) {
    case MESSAGE_ADD_PORT: session_port_start(message->session_port, data_thread); break;
    case MESSAGE_REMOVE_PORT:
        session_port_close(message->session_port);
        return; /* the message is embedded in the port */
    case MESSAGE_ADD_TICKET:
        session_port_add_ticket(message->session_port, &message->ticket, message->expires_at);
        break;
    case MESSAGE_CANCEL_TICKET:
        session_port_cancel(message->session_port, message->ticket.stream, message->ticket.attempt);
        break;
    case MESSAGE_MOVE_JOIN: preauth_attach(message->preauth, &data_thread->preauths); break;
    case MESSAGE_CHANGE_LIMITS:
        data_thread->limits = message->limits;
        data_thread->preauths.join_ms = message->limits.join_ms;
        break;
    case MESSAGE_PAUSE: ev_break(data_thread->loop, EVBREAK_ALL); return;
    case MESSAGE_PAIRED:
    case MESSAGE_ENDED: break; /* only for the control thread */
    }
    message_free(message);
}

static bool data_thread_on_join(void *userdata, struct preauth *preauth)
{
    session_port_join(userdata, preauth);
    return false;
}

static void data_thread_reap(struct data_thread *data_thread)
{
    gt_list_for_each_safe (at, next, &data_thread->closed_pairs)
        pair_free(gt_list_entry(at, struct pair, of_session_port));
    gt_list_for_each_safe (at, next, &data_thread->closed_session_ports)
        session_port_free(gt_list_entry(at, struct session_port, of_data_thread));
}

/* Reaps once per turn, so that nothing is freed within its own callback. */
static void data_thread_before_sleep(struct ev_loop *loop, ev_prepare *prepare, int events)
{
    struct data_thread *data_thread = gt_container_of(prepare, struct data_thread, before_sleep);

    preauth_host_reap(&data_thread->preauths);
    data_thread_reap(data_thread);
    if (atomic_load(&data_thread->counts.n_pairs) == 0)
        pipe_pool_drain(&data_thread->pool);
    atomic_store(&data_thread->counts.n_pipes, (unsigned)data_thread->pool.n_spliced);
    atomic_fetch_add(&data_thread->counts.n_wakeups, 1);
}

/* A paused thread waits outside its loop. */
static void *data_thread_run(void *userdata)
{
    struct data_thread *data_thread = userdata;

    do {
        ev_run(data_thread->loop, 0);
        sem_post(&data_thread->paused);
        while (sem_wait(&data_thread->resume) < 0)
            continue;
    } while (data_thread->state != DATA_THREAD_ENDING);
    return NULL;
}

/* Signals are handled by the control thread. */
int data_thread_start(struct data_thread *data_thread)
{
    sigset_t all, before;

    data_thread->state = DATA_THREAD_RUNNING;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int r = pthread_create(&data_thread->thread, NULL, data_thread_run, data_thread);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (r)
        data_thread->state = DATA_THREAD_NEW;
    return -r;
}

void data_thread_request_pause(struct data_thread *data_thread)
{
    if (data_thread->state == DATA_THREAD_RUNNING)
        mailbox_post(&data_thread->inbox, &data_thread->pause_message);
}

void data_thread_await_pause(struct data_thread *data_thread)
{
    if (data_thread->state != DATA_THREAD_RUNNING)
        return;
    while (sem_wait(&data_thread->paused) < 0)
        continue;
    data_thread->state = DATA_THREAD_PAUSED;
}

void data_thread_resume(struct data_thread *data_thread)
{
    if (data_thread->state != DATA_THREAD_PAUSED)
        return;
    data_thread->state = DATA_THREAD_RUNNING;
    sem_post(&data_thread->resume);
}

static void data_thread_end_thread(struct data_thread *data_thread)
{
    data_thread_request_pause(data_thread);
    data_thread_await_pause(data_thread);
    if (data_thread->state != DATA_THREAD_PAUSED)
        return;
    data_thread->state = DATA_THREAD_ENDING;
    sem_post(&data_thread->resume);
    pthread_join(data_thread->thread, NULL);
}

void data_thread_deliver(struct data_thread *data_thread)
{
    mailbox_drain(&data_thread->inbox);
    preauth_host_reap(&data_thread->preauths);
    data_thread_reap(data_thread);
}

static int data_thread_init(struct data_thread *data_thread,
                            const struct data_thread_settings *settings)
{
    data_thread->index = settings->index;
    data_thread->outbox = settings->outbox;
    data_thread->quota = settings->quota;
    data_thread->limits = settings->limits;
    data_thread->pause_message.kind = MESSAGE_PAUSE;
    sem_init(&data_thread->paused, 0, 0);
    sem_init(&data_thread->resume, 0, 0);
    gt_list_init(&data_thread->session_ports);
    gt_list_init(&data_thread->closed_session_ports);
    gt_list_init(&data_thread->closed_pairs);
    gt_reserve_fd_init(&data_thread->reserve);
    pipe_pool_init(&data_thread->pool, settings->pipe_kind, settings->pipe_size,
                   settings->n_pipes_max);
    mailbox_init(&data_thread->inbox, data_thread->loop, data_thread_on_message, data_thread);
    int r = preauth_host_init(&data_thread->preauths, data_thread->loop, settings->quota);
    data_thread->preauths.join_ms = settings->limits.join_ms;
    data_thread->preauths.on_join = data_thread_on_join;
    data_thread->preauths.userdata = data_thread;
    ev_prepare_init(&data_thread->before_sleep, data_thread_before_sleep);
    ev_prepare_start(data_thread->loop, &data_thread->before_sleep);
    return r;
}

static void data_thread_deinit(struct data_thread *data_thread)
{
    mailbox_drain(&data_thread->inbox); /* messages posted after the end */
    gt_list_for_each_safe (at, next, &data_thread->session_ports)
        session_port_close(gt_list_entry(at, struct session_port, of_data_thread));
    preauth_host_deinit(&data_thread->preauths);
    data_thread_reap(data_thread);
    pipe_pool_drain(&data_thread->pool);
    gt_reserve_fd_deinit(&data_thread->reserve);
    mailbox_deinit(&data_thread->inbox);
    sem_destroy(&data_thread->paused);
    sem_destroy(&data_thread->resume);
    ev_loop_destroy(data_thread->loop);
}

int data_thread_new(const struct data_thread_settings *settings, struct data_thread **ret)
{
    struct data_thread *data_thread = calloc(1, sizeof(*data_thread));

    if (!data_thread)
        return -ENOMEM;
    data_thread->loop = ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV);
    if (!data_thread->loop) {
        free(data_thread);
        return -ENOMEM;
    }
    int r = data_thread_init(data_thread, settings);
    if (r) {
        data_thread_deinit(data_thread);
        free(data_thread);
        return r;
    }
    *ret = data_thread;
    return 0;
}

struct data_thread *data_thread_free(struct data_thread *data_thread)
{
    if (!data_thread)
        return NULL;
    data_thread_end_thread(data_thread);
    data_thread_deinit(data_thread);
    free(data_thread);
    return NULL;
}

int data_thread_add_port(struct data_thread *data_thread, struct session_port *session_port)
{
    struct message *message = message_new(MESSAGE_ADD_PORT, session_port);

    if (!message)
        return -ENOMEM;
    mailbox_post(&data_thread->inbox, message);
    return 0;
}

void data_thread_remove_port(struct data_thread *data_thread, struct session_port *session_port)
{
    mailbox_post(&data_thread->inbox, &session_port->close_message);
}

int data_thread_add_ticket(struct data_thread *data_thread, struct session_port *session_port,
                           const struct gt_ticket *ticket, uint64_t expires_at)
{
    struct message *message = message_new(MESSAGE_ADD_TICKET, session_port);

    if (!message)
        return -ENOMEM;
    message->ticket = *ticket;
    message->expires_at = expires_at;
    mailbox_post(&data_thread->inbox, message);
    return 0;
}

int data_thread_cancel_ticket(struct data_thread *data_thread, struct session_port *session_port,
                              uint32_t stream, uint32_t attempt)
{
    struct message *message = message_new(MESSAGE_CANCEL_TICKET, session_port);

    if (!message)
        return -ENOMEM;
    message->ticket = (struct gt_ticket){.stream = stream, .attempt = attempt};
    mailbox_post(&data_thread->inbox, message);
    return 0;
}

int data_thread_move_join(struct data_thread *data_thread, struct preauth *preauth)
{
    struct message *message = message_new(MESSAGE_MOVE_JOIN, NULL);

    if (!message)
        return -ENOMEM;
    preauth_detach(preauth);
    message->preauth = preauth;
    mailbox_post(&data_thread->inbox, message);
    return 0;
}

int data_thread_change_limits(struct data_thread *data_thread,
                              const struct data_thread_limits *limits)
{
    struct message *message = message_new(MESSAGE_CHANGE_LIMITS, NULL);

    if (!message)
        return -ENOMEM;
    message->limits = *limits;
    mailbox_post(&data_thread->inbox, message);
    return 0;
}

void data_thread_report(struct data_thread *data_thread, const struct message *what)
{
    struct message *message = message_new(what->kind, NULL);

    if (!message) {
        gt_warn("thread=%u dropped a message reason=\"out of memory\"", data_thread->index);
        return;
    }
    *message = *what;
    mailbox_post(data_thread->outbox, message);
}
