/* SPDX-License-Identifier: ISC */
/* One piece of the files in each turn of the loop, as fast as the tunnel takes them. */
#include "audit-feed.h"

#include <sys/socket.h>

#include "gotthard/base/log.h"

struct audit_feed {
    struct ev_loop *loop;
    struct gt_audit_files files;
    int fd; /* owned; -1: all is sent */
    ev_io writable;
    uint64_t n_left; /* bytes to read: the audit may grow meanwhile */
    size_t at, n;    /* of ->bytes: sent, and read */
    uint8_t bytes[16 * 1024];
};

/* The worker sees the end of the file. */
static void feed_end(struct audit_feed *feed)
{
    ev_io_stop(feed->loop, &feed->writable);
    gt_audit_files_close(&feed->files);
    gt_close(&feed->fd);
}

/* Returns false at the end. */
static bool feed_read(struct audit_feed *feed)
{
    size_t cap = (size_t)GT_MIN(feed->n_left, sizeof(feed->bytes));
    ssize_t n = cap > 0 ? gt_audit_files_read(&feed->files, feed->bytes, cap) : 0;

    if (n < 0)
        gt_warn_errno((int)n, "the audit cannot be read to its end");
    feed->at = 0;
    feed->n = n > 0 ? (size_t)n : 0;
    feed->n_left -= feed->n;
    return n > 0;
}

static void feed_on_writable(struct ev_loop *loop, ev_io *watcher, int revents)
{
    struct audit_feed *feed = watcher->data;

    if (feed->at == feed->n && !feed_read(feed)) {
        feed_end(feed);
        return;
    }
    ssize_t n = send(feed->fd, feed->bytes + feed->at, feed->n - feed->at, MSG_NOSIGNAL);
    if (n >= 0)
        feed->at += (size_t)n;
    else if (errno != EAGAIN && errno != EINTR)
        feed_end(feed); /* the operator has left */
}

int audit_feed_new(struct ev_loop *loop, const char *folder, struct audit_feed **ret, int *ret_fd)
{
    struct audit_feed *feed = calloc(1, sizeof(*feed));
    int ends[2];

    if (!feed)
        return -ENOMEM;
    int r = gt_audit_files_open(folder, &feed->files);
    if (r == 0 && socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) < 0)
        r = -errno;
    if (r) {
        gt_audit_files_close(&feed->files);
        free(feed);
        return r;
    }
    feed->loop = loop;
    feed->fd = ends[0];
    feed->n_left = gt_audit_files_size(&feed->files);
    struct gt_writer length = gt_writer(feed->bytes, sizeof(feed->bytes));
    gt_write_u64(&length, feed->n_left);
    feed->n = length.n;
    ev_io_init(&feed->writable, feed_on_writable, ends[0], EV_WRITE);
    feed->writable.data = feed;
    ev_io_start(loop, &feed->writable);
    *ret = feed;
    *ret_fd = ends[1];
    return 0;
}

struct audit_feed *audit_feed_free(struct audit_feed *feed)
{
    if (!feed)
        return NULL;
    feed_end(feed);
    free(feed);
    return NULL;
}
