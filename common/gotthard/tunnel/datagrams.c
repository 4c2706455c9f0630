/* SPDX-License-Identifier: ISC */
/*
 * Frames in both directions. Of a frame that the socket took in part, the remainder is kept, and
 * goes out before anything else: a stream never contains a part of a datagram.
 */
#include "gotthard/tunnel/datagrams.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#define HEADER      2
#define SEND_BUFFER (64 * 1024) /* bytes: more would only make datagrams late */

struct gt_datagrams {
    struct ev_loop *loop;
    const struct gt_datagrams_events *events;
    void *userdata;
    int fd; /* owned */
    ev_io readable, writable;
    ev_timer idle;
    uint8_t *rest; /* owned: of the frame that was sent in part, or NULL */
    size_t n_rest, n_rest_sent;
    size_t n_in;
    uint8_t in[HEADER + GT_DATAGRAM_MAX];
};

static void datagrams_stop(struct gt_datagrams *datagrams)
{
    ev_io_stop(datagrams->loop, &datagrams->readable);
    ev_io_stop(datagrams->loop, &datagrams->writable);
    ev_timer_stop(datagrams->loop, &datagrams->idle);
}

struct gt_datagrams *gt_datagrams_free(struct gt_datagrams *datagrams)
{
    if (!datagrams)
        return NULL;
    datagrams_stop(datagrams);
    gt_close(&datagrams->fd);
    free(datagrams->rest);
    free(datagrams);
    return NULL;
}

/* The last statement of a handler. */
static void datagrams_end(struct gt_datagrams *datagrams)
{
    datagrams_stop(datagrams);
    datagrams->events->on_end(datagrams->userdata);
}

static void datagrams_touch(struct gt_datagrams *datagrams)
{
    ev_timer_again(datagrams->loop, &datagrams->idle);
}

/* Delivers the whole datagrams in the buffer. Returns false after a wrong length. */
static bool datagrams_deliver(struct gt_datagrams *datagrams)
{
    size_t at = 0;

    while (datagrams->n_in - at >= HEADER) {
        const uint8_t *frame = datagrams->in + at;
        size_t n = (size_t)frame[0] << 8 | frame[1];

        if (n > GT_DATAGRAM_MAX)
            return false;
        if (datagrams->n_in - at < HEADER + n)
            break;
        datagrams->events->on_datagram(datagrams->userdata, frame + HEADER, n);
        datagrams_touch(datagrams);
        at += HEADER + n;
    }
    datagrams->n_in -= at;
    memmove(datagrams->in, datagrams->in + at, datagrams->n_in);
    return true;
}

static void datagrams_on_readable(struct ev_loop *loop, ev_io *watcher, int revents)
{
    struct gt_datagrams *datagrams = watcher->data;
    ssize_t n = recv(datagrams->fd, datagrams->in + datagrams->n_in,
                     sizeof(datagrams->in) - datagrams->n_in, 0);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    datagrams->n_in += n > 0 ? (size_t)n : 0;
    if (n <= 0 || !datagrams_deliver(datagrams))
        datagrams_end(datagrams);
}

static void datagrams_on_writable(struct ev_loop *loop, ev_io *watcher, int revents)
{
    struct gt_datagrams *datagrams = watcher->data;
    ssize_t n = send(datagrams->fd, datagrams->rest + datagrams->n_rest_sent,
                     datagrams->n_rest - datagrams->n_rest_sent, MSG_NOSIGNAL);

    if (n < 0) /* the reader finds out why */
        return;
    datagrams->n_rest_sent += (size_t)n;
    if (datagrams->n_rest_sent < datagrams->n_rest)
        return;
    free(datagrams->rest);
    datagrams->rest = NULL;
    ev_io_stop(loop, watcher);
}

static void datagrams_on_idle(struct ev_loop *loop, ev_timer *watcher, int revents)
{
    datagrams_end(watcher->data);
}

/* Keeps what the socket did not take. Without memory the stream cannot continue: it would contain a
 * part of a frame. */
static bool datagrams_keep(struct gt_datagrams *datagrams, const uint8_t header[static HEADER],
                           const uint8_t *data, size_t n, size_t n_sent)
{
    uint8_t *rest = malloc(HEADER + n);

    if (!rest) {
        shutdown(datagrams->fd, SHUT_RDWR);
        return false;
    }
    memcpy(rest, header, HEADER);
    memcpy(rest + HEADER, data, n);
    datagrams->rest = rest;
    datagrams->n_rest = HEADER + n;
    datagrams->n_rest_sent = n_sent;
    ev_io_start(datagrams->loop, &datagrams->writable);
    return true;
}

bool gt_datagrams_send(struct gt_datagrams *datagrams, const uint8_t *data, size_t n)
{
    uint8_t header[HEADER] = {(uint8_t)(n >> 8), (uint8_t)n};
    struct iovec parts[] = {{header, HEADER}, {(void *)data, n}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};

    if (datagrams->rest || n > GT_DATAGRAM_MAX)
        return false;
    ssize_t n_sent = sendmsg(datagrams->fd, &message, MSG_NOSIGNAL);
    if (n_sent < 0)
        return false;
    datagrams_touch(datagrams);
    return (size_t)n_sent == HEADER + n ||
           datagrams_keep(datagrams, header, data, n, (size_t)n_sent);
}

int gt_datagrams_new(struct ev_loop *loop, int fd, double idle_s,
                     const struct gt_datagrams_events *events, void *userdata,
                     struct gt_datagrams **ret)
{
    struct gt_datagrams *datagrams = malloc(sizeof(*datagrams));

    if (!datagrams) {
        close(fd);
        return -ENOMEM;
    }
    memset(datagrams, 0, offsetof(struct gt_datagrams, in));
    datagrams->loop = loop;
    datagrams->events = events;
    datagrams->userdata = userdata;
    datagrams->fd = fd;
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &(int){SEND_BUFFER}, sizeof(int));
    ev_io_init(&datagrams->readable, datagrams_on_readable, fd, EV_READ);
    ev_io_init(&datagrams->writable, datagrams_on_writable, fd, EV_WRITE);
    ev_init(&datagrams->idle, datagrams_on_idle);
    datagrams->idle.repeat = idle_s > 0 ? idle_s : GT_DATAGRAM_IDLE_S;
    datagrams->readable.data = datagrams->writable.data = datagrams->idle.data = datagrams;
    ev_io_start(loop, &datagrams->readable);
    datagrams_touch(datagrams);
    *ret = datagrams;
    return 0;
}
