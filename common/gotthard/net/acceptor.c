/* SPDX-License-Identifier: ISC */
/*
 * The accept loop and its reaction to a lack of descriptors. Quotas should prevent that lack; other
 * programs and the system's own limit (ENFILE) may still cause it. The listening socket is watched
 * level-triggered, so a connection that this turn leaves in the backlog starts another turn.
 */
#include "gotthard/net/acceptor.h"

#include <fcntl.h>

#include "gotthard/base/log.h"

#define ACCEPTS_PER_TURN 64 /* other watchers need their turn */
#define PAUSE_S          0.1

void gt_reserve_fd_init(struct gt_reserve_fd *reserve)
{
    reserve->fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

void gt_reserve_fd_deinit(struct gt_reserve_fd *reserve)
{
    gt_close(&reserve->fd);
}

static void acceptor_watch(struct gt_acceptor *acceptor)
{
    if (acceptor->is_started && !ev_is_active(&acceptor->pause))
        ev_io_start(acceptor->loop, &acceptor->io);
    else
        ev_io_stop(acceptor->loop, &acceptor->io);
}

void gt_acceptor_pause(struct gt_acceptor *acceptor)
{
    ev_timer_stop(acceptor->loop, &acceptor->pause);
    ev_timer_set(&acceptor->pause, PAUSE_S, 0.);
    ev_timer_start(acceptor->loop, &acceptor->pause);
    acceptor_watch(acceptor);
}

static void acceptor_on_pause_over(struct ev_loop *loop, ev_timer *timer, int revents)
{
    acceptor_watch(timer->data);
}

/* accept(2) also reports errors of the connection that is first in the backlog, and removes it. */
static bool is_error_of_connection(int err)
{
    switch (-err) {
    case EINTR:
    case ECONNABORTED:
    case ENETDOWN:
    case EPROTO:
    case ENOPROTOOPT:
    case EHOSTDOWN:
    case ENONET:
    case EHOSTUNREACH:
    case ENETUNREACH: return true;
    default: return false;
    }
}

/* Uses the reserve descriptor to accept one connection and close it. Returns false if there is
 * none, or if even that failed. */
static bool acceptor_turn_away(struct gt_acceptor *acceptor)
{
    struct gt_reserve_fd *reserve = acceptor->reserve;
    struct gt_addr peer;
    bool is_done = false;

    if (!reserve)
        return false;
    if (reserve->fd >= 0) {
        gt_close(&reserve->fd);
        gt_cleanup(gt_close) int fd = gt_sock_accept(acceptor->fd, &peer);
        is_done = fd >= 0;
    }
    gt_reserve_fd_init(reserve);
    return is_done;
}

static void acceptor_on_failure(struct gt_acceptor *acceptor, int err)
{
    static struct gt_log_rate rate;
    unsigned n_suppressed;

    if (gt_log_is_allowed(&rate, 1, &n_suppressed))
        gt_warn_errno(err, "accept failed suppressed=%u reason", n_suppressed);
    if ((err != -EMFILE && err != -ENFILE) || !acceptor_turn_away(acceptor))
        gt_acceptor_pause(acceptor);
}

static void acceptor_on_readable(struct ev_loop *loop, ev_io *io, int revents)
{
    struct gt_acceptor *acceptor = io->data;

    for (unsigned n = 0; n < ACCEPTS_PER_TURN && ev_is_active(&acceptor->io); n++) {
        struct gt_addr peer;
        int fd = gt_sock_accept_inheriting(acceptor->fd, acceptor->inherited, &peer);

        if (fd >= 0) {
            acceptor->on_accept(acceptor->userdata, fd, &peer);
        } else if (fd == -EAGAIN) {
            return;
        } else if (!is_error_of_connection(fd)) {
            acceptor_on_failure(acceptor, fd);
            return;
        }
    }
}

void gt_acceptor_init(struct gt_acceptor *acceptor, struct ev_loop *loop, int fd,
                      struct gt_reserve_fd *reserve, gt_acceptor_fn on_accept, void *userdata)
{
    *acceptor = (struct gt_acceptor){
        .loop = loop, .fd = fd, .reserve = reserve, .on_accept = on_accept, .userdata = userdata};
    acceptor->inherited = gt_sock_inherited(fd);
    ev_io_init(&acceptor->io, acceptor_on_readable, fd, EV_READ);
    ev_init(&acceptor->pause, acceptor_on_pause_over);
    acceptor->io.data = acceptor->pause.data = acceptor;
}

void gt_acceptor_start(struct gt_acceptor *acceptor)
{
    acceptor->is_started = true;
    acceptor_watch(acceptor);
}

void gt_acceptor_stop(struct gt_acceptor *acceptor)
{
    acceptor->is_started = false;
    acceptor_watch(acceptor);
}

void gt_acceptor_deinit(struct gt_acceptor *acceptor)
{
    if (!acceptor->loop)
        return;
    gt_acceptor_stop(acceptor);
    ev_timer_stop(acceptor->loop, &acceptor->pause);
    gt_close(&acceptor->fd);
    acceptor->loop = NULL;
}
