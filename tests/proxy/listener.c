/* SPDX-License-Identifier: ISC */
/*
 * Accepts connections and applies the policy to each: forward, hold or reset. The handshake of the
 * kernel cannot be delayed from here.
 */
#include "listener.h"

#define LISTENER_BACKLOG 1024

static void listener_accept(struct listener *listener, int here)
{
    struct proxy *proxy = listener->proxy;

    proxy->n_accepted++;
    if (proxy->policy == PROXY_REFUSE)
        gt_sock_reset(here);
    else
        connection_new(proxy, here, &listener->at, &listener->to);
}

static void listener_on_readable(struct ev_loop *loop, ev_io *watcher, int events)
{
    struct listener *listener = watcher->data;
    struct gt_addr from;
    int here = gt_sock_accept(listener->fd, &from);

    if (here >= 0)
        listener_accept(listener, here);
}

int listener_open(struct proxy *proxy, const struct gt_addr *at, const struct gt_addr *to,
                  uint16_t *ret_port)
{
    gt_cleanup(gt_close) int fd = gt_sock_listen(at, LISTENER_BACKLOG);
    struct gt_addr bound = *at;
    struct listener *listener;

    if (fd < 0)
        return fd;
    if (gt_sock_local(fd, &bound) < 0 || !(listener = calloc(1, sizeof(*listener))))
        return -ENOMEM;
    listener->proxy = proxy;
    listener->fd = gt_steal_fd(&fd);
    listener->at = bound;
    listener->to = *to;
    ev_io_init(&listener->readable, listener_on_readable, listener->fd, EV_READ);
    listener->readable.data = listener;
    ev_io_start(proxy->loop, &listener->readable);
    gt_list_append(&proxy->listeners, &listener->element);
    *ret_port = gt_addr_port(&bound);
    return 0;
}

void listener_close(struct listener *listener)
{
    ev_io_stop(listener->proxy->loop, &listener->readable);
    gt_close(&listener->fd);
    gt_list_unlink(&listener->element);
    free(listener);
}
