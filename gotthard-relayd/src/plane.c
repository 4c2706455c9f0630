/* SPDX-License-Identifier: ISC */
/*
 * The thread of a plane, and both ends of its mail. Everything it owns is made before the thread
 * starts and freed after it has ended, by the control thread; in between only the plane touches it,
 * but for the moments when its thread waits.
 */
#include "plane.h"

#include <signal.h>

#include "dock.h"
#include "gotthard/log.h"

static void plane_stop(struct plane *plane)
{
    ev_break(plane->loop, EVBREAK_ALL);
}

/* The first half of a letter's life belongs to who posts it, the second to this. */
static void plane_on_letter(void *userdata, struct letter *letter)
{
    struct plane *plane = userdata;

    switch (letter->kind) {
    case LETTER_DOCK: dock_start(letter->dock, plane); break;
    case LETTER_UNDOCK: dock_end(letter->dock); return; /* the letter is part of it */
    case LETTER_TICKET: dock_honour(letter->dock, &letter->ticket, letter->expires_at); break;
    case LETTER_CANCEL:
        dock_cancel(letter->dock, letter->ticket.stream, letter->ticket.attempt);
        break;
    case LETTER_JOIN: stranger_attach(letter->stranger, &plane->strangers); break;
    case LETTER_SETTINGS:
        plane->limits = letter->limits;
        plane->strangers.join_ms = letter->limits.join_ms;
        break;
    case LETTER_STOP: plane_stop(plane); return;
    case LETTER_PAIRED:
    case LETTER_ENDED: break; /* not for a plane */
    }
    letter_free(letter);
}

static bool plane_on_join(void *userdata, struct stranger *stranger)
{
    dock_join(userdata, stranger);
    return false;
}

static bool plane_is_vouched(void *userdata, const uint8_t *bytes, void *dock)
{
    return dock_vouch(userdata, bytes, dock);
}

static void plane_bury(struct plane *plane)
{
    gt_list_for_each_safe (at, next, &plane->dead_pairs)
        pair_free(gt_list_entry(at, struct pair, of_dock));
    gt_list_for_each_safe (at, next, &plane->dead_docks)
        dock_free(gt_list_entry(at, struct dock, of_plane));
}

/* Once per turn: nothing is freed inside its own callback. */
static void plane_before_sleep(struct ev_loop *loop, ev_prepare *prepare, int events)
{
    struct plane *plane = gt_container_of(prepare, struct plane, before_sleep);

    stranger_host_bury(&plane->strangers);
    plane_bury(plane);
    if (atomic_load(&plane->counts.n_pairs) == 0)
        pipe_pool_drain(&plane->pool);
    atomic_store(&plane->counts.n_pipes, (unsigned)plane->pool.n_spliced);
    atomic_store(&plane->counts.n_wakeups, ev_iteration(loop));
}

/* Stopped, it waits outside its loop for what comes next. */
static void *plane_run(void *userdata)
{
    struct plane *plane = userdata;

    do {
        ev_run(plane->loop, 0);
        sem_post(&plane->stopped);
        while (sem_wait(&plane->may_go_on) < 0)
            continue;
    } while (plane->state != PLANE_ENDING);
    return NULL;
}

/* Signals are the control thread's. */
int plane_start(struct plane *plane)
{
    sigset_t all, before;

    plane->state = PLANE_RUNNING;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int r = pthread_create(&plane->thread, NULL, plane_run, plane);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (r)
        plane->state = PLANE_NEW;
    return -r;
}

void plane_ask_to_stop(struct plane *plane)
{
    if (plane->state == PLANE_RUNNING)
        mailbox_post(&plane->inbox, &plane->stop);
}

void plane_await_stop(struct plane *plane)
{
    if (plane->state != PLANE_RUNNING)
        return;
    while (sem_wait(&plane->stopped) < 0)
        continue;
    plane->state = PLANE_STILL;
}

void plane_go_on(struct plane *plane)
{
    if (plane->state != PLANE_STILL)
        return;
    plane->state = PLANE_RUNNING;
    sem_post(&plane->may_go_on);
}

static void plane_end_thread(struct plane *plane)
{
    plane_ask_to_stop(plane);
    plane_await_stop(plane);
    if (plane->state != PLANE_STILL)
        return;
    plane->state = PLANE_ENDING;
    sem_post(&plane->may_go_on);
    pthread_join(plane->thread, NULL);
}

void plane_settle(struct plane *plane)
{
    mailbox_drain(&plane->inbox);
    stranger_host_bury(&plane->strangers);
    plane_bury(plane);
}

static int plane_init(struct plane *plane, const struct plane_settings *settings)
{
    plane->index = settings->index;
    plane->outbox = settings->outbox;
    plane->quota = settings->quota;
    plane->limits = settings->limits;
    plane->stop.kind = LETTER_STOP;
    sem_init(&plane->stopped, 0, 0);
    sem_init(&plane->may_go_on, 0, 0);
    tickets_init(&plane->tickets);
    gt_list_init(&plane->docks);
    gt_list_init(&plane->dead_docks);
    gt_list_init(&plane->dead_pairs);
    spare_init(&plane->spare);
    pipe_pool_init(&plane->pool, settings->pipe_kind, settings->pipe_size, settings->n_pipes_max);
    mailbox_init(&plane->inbox, plane->loop, plane_on_letter, plane);
    int r = stranger_host_init(&plane->strangers, plane->loop, settings->quota);
    plane->strangers.join_ms = settings->limits.join_ms;
    plane->strangers.on_join = plane_on_join;
    plane->strangers.is_vouched = plane_is_vouched;
    plane->strangers.userdata = plane;
    ev_prepare_init(&plane->before_sleep, plane_before_sleep);
    ev_prepare_start(plane->loop, &plane->before_sleep);
    return r;
}

static void plane_deinit(struct plane *plane)
{
    mailbox_drain(&plane->inbox); /* what was posted after the end */
    gt_list_for_each_safe (at, next, &plane->docks)
        dock_end(gt_list_entry(at, struct dock, of_plane));
    stranger_host_deinit(&plane->strangers);
    tickets_deinit(&plane->tickets);
    plane_bury(plane);
    pipe_pool_drain(&plane->pool);
    spare_deinit(&plane->spare);
    mailbox_deinit(&plane->inbox);
    sem_destroy(&plane->stopped);
    sem_destroy(&plane->may_go_on);
    ev_loop_destroy(plane->loop);
}

int plane_new(const struct plane_settings *settings, struct plane **ret)
{
    struct plane *plane = calloc(1, sizeof(*plane));

    if (!plane)
        return -ENOMEM;
    plane->loop = ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV);
    if (!plane->loop) {
        free(plane);
        return -ENOMEM;
    }
    int r = plane_init(plane, settings);
    if (r) {
        plane_deinit(plane);
        free(plane);
        return r;
    }
    *ret = plane;
    return 0;
}

struct plane *plane_free(struct plane *plane)
{
    if (!plane)
        return NULL;
    plane_end_thread(plane);
    plane_deinit(plane);
    free(plane);
    return NULL;
}

int plane_dock(struct plane *plane, struct dock *dock)
{
    struct letter *letter = letter_new(LETTER_DOCK, dock);

    if (!letter)
        return -ENOMEM;
    mailbox_post(&plane->inbox, letter);
    return 0;
}

void plane_undock(struct plane *plane, struct dock *dock)
{
    mailbox_post(&plane->inbox, &dock->farewell);
}

int plane_honour(struct plane *plane, struct dock *dock, const struct gt_ticket *ticket,
                 uint64_t expires_at)
{
    struct letter *letter = letter_new(LETTER_TICKET, dock);

    if (!letter)
        return -ENOMEM;
    letter->ticket = *ticket;
    letter->expires_at = expires_at;
    mailbox_post(&plane->inbox, letter);
    return 0;
}

int plane_cancel(struct plane *plane, struct dock *dock, uint32_t stream, uint32_t attempt)
{
    struct letter *letter = letter_new(LETTER_CANCEL, dock);

    if (!letter)
        return -ENOMEM;
    letter->ticket = (struct gt_ticket){.stream = stream, .attempt = attempt};
    mailbox_post(&plane->inbox, letter);
    return 0;
}

int plane_join(struct plane *plane, struct stranger *stranger)
{
    struct letter *letter = letter_new(LETTER_JOIN, NULL);

    if (!letter)
        return -ENOMEM;
    stranger_detach(stranger);
    letter->stranger = stranger;
    mailbox_post(&plane->inbox, letter);
    return 0;
}

int plane_change(struct plane *plane, const struct plane_limits *limits)
{
    struct letter *letter = letter_new(LETTER_SETTINGS, NULL);

    if (!letter)
        return -ENOMEM;
    letter->limits = *limits;
    mailbox_post(&plane->inbox, letter);
    return 0;
}

void plane_tell(struct plane *plane, const struct letter *what)
{
    struct letter *letter = letter_new(what->kind, NULL);

    if (!letter) {
        gt_warn("plane=%u lost a letter reason=\"no memory\"", plane->index);
        return;
    }
    *letter = *what;
    mailbox_post(plane->outbox, letter);
}
