/* SPDX-License-Identifier: ISC */
/*
 * Accepting, and what to do when descriptors run out. The budget of quota.c should keep that from
 * happening; other programs and the system's own limit may still bring it about.
 */
#include "listener.h"

#include <fcntl.h>

#include "gotthard/log.h"

#define LISTENER_BURST   64 /* per wake-up: other watchers want their turn too */
#define LISTENER_PAUSE_S 0.1

void spare_init(struct spare *spare)
{
    spare->fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

void spare_deinit(struct spare *spare)
{
    gt_close(&spare->fd);
}

void listener_pause(struct listener *listener)
{
    ev_io_stop(listener->loop, &listener->io);
    ev_timer_set(&listener->pause, LISTENER_PAUSE_S, 0);
    ev_timer_start(listener->loop, &listener->pause);
}

/* Spends the spare descriptor to accept one connection and close it. False: not even that. */
static bool listener_turn_away(struct listener *listener)
{
    struct gt_addr addr;
    bool had_one = listener->spare->fd >= 0;

    gt_close(&listener->spare->fd);
    if (had_one) {
        gt_cleanup(gt_close) int fd = gt_sock_accept(listener->fd, &addr);
        had_one = fd >= 0;
    }
    spare_init(listener->spare);
    return had_one;
}

static void listener_on_failure(struct listener *listener, int error)
{
    static struct gt_log_rate rate;
    unsigned left_out;

    if (error == -EAGAIN || error == -ECONNABORTED || error == -EINTR)
        return;
    if (gt_log_is_allowed(&rate, 1, &left_out))
        gt_warn_errno(error, "accept failed=%u reason", left_out + 1);
    if ((error != -EMFILE && error != -ENFILE) || !listener_turn_away(listener))
        listener_pause(listener);
}

static void listener_on_readable(struct ev_loop *loop, ev_io *io, int events)
{
    struct listener *listener = gt_container_of(io, struct listener, io);

    for (unsigned i = 0; i < LISTENER_BURST && listener->fd >= 0; i++) {
        struct gt_addr addr;
        int fd = gt_sock_accept(listener->fd, &addr);
        if (fd < 0) {
            listener_on_failure(listener, fd);
            return;
        }
        listener->on_accept(listener->userdata, fd, &addr);
    }
}

static void listener_on_rested(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct listener *listener = gt_container_of(timer, struct listener, pause);

    ev_io_start(loop, &listener->io);
}

void listener_start(struct listener *listener, struct ev_loop *loop, int fd, struct spare *spare,
                    listener_fn on_accept, void *userdata)
{
    *listener = (struct listener){
        .loop = loop, .fd = fd, .spare = spare, .on_accept = on_accept, .userdata = userdata};
    ev_io_init(&listener->io, listener_on_readable, fd, EV_READ);
    ev_init(&listener->pause, listener_on_rested);
    ev_io_start(loop, &listener->io);
}

void listener_stop(struct listener *listener)
{
    if (!listener->loop)
        return;
    ev_io_stop(listener->loop, &listener->io);
    ev_timer_stop(listener->loop, &listener->pause);
    gt_close(&listener->fd);
    listener->loop = NULL;
}
