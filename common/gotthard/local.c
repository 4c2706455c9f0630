/* SPDX-License-Identifier: ISC */
/*
 * Between a socket and two rings. Watches only what is wanted: a socket that hung up while its
 * stream is full is looked at again when there is room, and never wakes the loop before.
 */
#include "gotthard/local.h"

#include <sys/socket.h>

#include "gotthard/sock.h"

static void local_on_event(struct ev_loop *loop, ev_io *watcher, int revents)
{
    struct gt_local *local = watcher->data;
    local->on_event(local->userdata, revents);
}

void gt_local_init(struct gt_local *local, struct ev_loop *loop, struct gt_stream *stream,
                   void (*on_event)(void *userdata, int revents), void *userdata)
{
    *local = (struct gt_local){.loop = loop, .stream = stream, .fd = -1};
    local->on_event = on_event;
    local->userdata = userdata;
    ev_init(&local->reader, local_on_event);
    ev_init(&local->writer, local_on_event);
    local->reader.data = local->writer.data = local;
}

/* Until the stream has ended well, nothing may look like its end: not even our being killed. */
void gt_local_open(struct gt_local *local, int fd)
{
    gt_sock_set_abortive(fd, true);
    local->state = GT_LOCAL_OPEN;
    local->fd = fd;
    ev_io_set(&local->reader, fd, EV_READ);
    ev_io_set(&local->writer, fd, EV_WRITE);
}

void gt_local_close(struct gt_local *local)
{
    ev_io_stop(local->loop, &local->reader);
    ev_io_stop(local->loop, &local->writer);
    int fd = gt_steal_fd(&local->fd);
    local->state = GT_LOCAL_CLOSED;
    if (fd < 0)
        return;
    gt_sock_set_abortive(fd, local->stream->state != GT_STREAM_ENDED);
    close(fd);
}

static void watch(struct ev_loop *loop, ev_io *watcher, bool is_wanted)
{
    if (is_wanted)
        ev_io_start(loop, watcher);
    else
        ev_io_stop(loop, watcher);
}

static bool is_served(const struct gt_local *local)
{
    return local->state == GT_LOCAL_OPEN && !gt_stream_is_over(local->stream);
}

void gt_local_watch(struct gt_local *local)
{
    if (!is_served(local))
        return;
    watch(local->loop, &local->reader, gt_stream_wants_local(local->stream));
    watch(local->loop, &local->writer, gt_ring_used(&local->stream->rx) > 0);
}

/* An error that is none, or the end of the stream. */
static void local_fail(struct gt_local *local)
{
    if (errno != EAGAIN && errno != EINTR)
        gt_stream_reset(local->stream, GT_RST_LOCAL);
}

bool gt_local_read(struct gt_local *local)
{
    struct gt_stream *s = local->stream;
    struct iovec room[2];
    int n_room;
    size_t asked = GT_MIN(gt_ring_free(&s->tx), GT_LOCAL_CHUNK);
    if (gt_ring_room(&s->tx, asked, room, &n_room) < 0) {
        gt_stream_reset(s, GT_RST_INTERNAL);
        return false;
    }
    ssize_t n = readv(local->fd, room, n_room);
    if (n < 0) {
        local_fail(local);
        return false;
    }
    if (n == 0)
        gt_stream_finish(s);
    else
        gt_stream_sent_in(s, (size_t)n);
    return (size_t)n == asked;
}

/* One call takes all runs of the ring; what is left then waits for the socket. */
static void local_write_bytes(struct gt_local *local)
{
    struct gt_stream *s = local->stream;
    struct iovec view[2 + GT_RING_LENT];
    int n_view = gt_ring_view(&s->rx, s->rx.head, SIZE_MAX, view);
    n_view += gt_ring_view_lent(&s->rx, view + n_view);
    struct msghdr message = {.msg_iov = view, .msg_iovlen = (size_t)n_view};
    ssize_t n = sendmsg(local->fd, &message, MSG_NOSIGNAL);
    if (n < 0)
        local_fail(local);
    else
        gt_stream_taken_out(s, (size_t)n);
    watch(local->loop, &local->writer, gt_ring_used(&s->rx) > 0);
}

void gt_local_write(struct gt_local *local)
{
    if (is_served(local) && gt_ring_used(&local->stream->rx) > 0)
        local_write_bytes(local);
    if (!is_served(local) || !gt_stream_is_eof_due(local->stream))
        return;
    if (shutdown(local->fd, SHUT_WR) < 0)
        gt_stream_reset(local->stream, GT_RST_LOCAL);
    else
        gt_stream_eof_delivered(local->stream);
}
