/* SPDX-License-Identifier: ISC */
/*
 * Binding, keeping and accepting. A port that somebody else has on only one of the two loopback
 * addresses is busy: `localhost` would lead some programs to him. When descriptors run out
 * accepting pauses; it never spins and never ends.
 */
#include "listener.h"

#include <string.h>

#include "gotthard/log.h"

#define BACKLOG       64
#define N_FREE_TRIES  16 /* for a port that is free on both addresses */
#define ACCEPT_BUDGET 16 /* a turn of the loop */
#define PAUSE         .1
#define N_SOCKETS     2

struct listener {
    struct ev_loop *loop;
    listener_accept_fn on_accept;
    void *userdata;
    struct gt_addr addr; /* of the first socket */
    ev_io sockets[N_SOCKETS];
    size_t n_sockets;
    bool is_started;
    ev_timer pause;
};

static int condition_of(int err)
{
    switch (-err) {
    case EADDRINUSE: return LISTENER_E_BUSY;
    case EACCES:
    case EPERM: return LISTENER_E_DENIED;
    case EADDRNOTAVAIL:
    case EAFNOSUPPORT: return LISTENER_E_ADDRESS;
    default: return err;
    }
}

static void listener_watch(struct listener *listener, bool is_on)
{
    for (size_t i = 0; i < listener->n_sockets; i++)
        if (is_on)
            ev_io_start(listener->loop, &listener->sockets[i]);
        else
            ev_io_stop(listener->loop, &listener->sockets[i]);
}

static void listener_on_readable(struct ev_loop *loop, ev_io *watcher, int revents)
{
    struct listener *listener = watcher->data;
    for (unsigned n = 0; n < ACCEPT_BUDGET && listener->is_started; n++) {
        struct gt_addr peer;
        int fd = gt_sock_accept(watcher->fd, &peer);
        if (fd >= 0) {
            listener->on_accept(listener->userdata, fd, &peer);
            continue;
        }
        if (fd == -EMFILE || fd == -ENFILE || fd == -ENOMEM || fd == -ENOBUFS) {
            gt_debug("accept: %s, pausing", strerror(-fd));
            listener_watch(listener, false);
            ev_timer_again(loop, &listener->pause);
        }
        if (fd != -ECONNABORTED && fd != -EINTR)
            return;
    }
}

static void listener_on_pause_over(struct ev_loop *loop, ev_timer *timer, int revents)
{
    struct listener *listener = timer->data;
    ev_timer_stop(loop, timer);
    listener_watch(listener, listener->is_started);
}

static int listener_add(struct listener *listener, const struct gt_addr *addr)
{
    int fd = gt_sock_listen(addr, BACKLOG);
    if (fd < 0)
        return fd;
    ev_io *watcher = &listener->sockets[listener->n_sockets++];
    ev_io_init(watcher, listener_on_readable, fd, EV_READ);
    watcher->data = listener;
    return 0;
}

static void listener_close(struct listener *listener)
{
    listener_watch(listener, false);
    for (size_t i = 0; i < listener->n_sockets; i++)
        close(listener->sockets[i].fd);
    listener->n_sockets = 0;
}

static int bind_one(struct listener *listener, const char *host, uint16_t port)
{
    struct gt_addr addr;
    if (gt_addr_parse(host, port, &addr) != 0)
        return -EADDRNOTAVAIL;
    int err = listener_add(listener, &addr);
    return err ? err : gt_sock_local(listener->sockets[0].fd, &listener->addr);
}

/* "::" takes IPv4 too, where there is any IPv6. */
static int bind_all(struct listener *listener, uint16_t port)
{
    int err = bind_one(listener, "::", port);
    return err == -EAFNOSUPPORT ? bind_one(listener, "0.0.0.0", port) : err;
}

/* Both loopback addresses on one port; only the first where there is no IPv6. */
static int bind_loopback(struct listener *listener, uint16_t port)
{
    struct gt_addr second;
    int err = bind_one(listener, "127.0.0.1", port);
    if (err != 0 || gt_addr_parse("::1", gt_addr_port(&listener->addr), &second) != 0)
        return err;
    err = listener_add(listener, &second);
    return err == -EADDRINUSE ? err : 0;
}

static int listener_bind(struct listener *listener, const char *host, uint16_t port)
{
    if (host && strcmp(host, "*") == 0)
        return bind_all(listener, port);
    if (host)
        return bind_one(listener, host, port);
    int err = bind_loopback(listener, port);
    for (int n = 0; n < N_FREE_TRIES && port == 0 && err == -EADDRINUSE; n++) {
        listener_close(listener);
        err = bind_loopback(listener, port);
    }
    return err;
}

int listener_new(const struct listener_settings *settings, listener_accept_fn on_accept,
                 void *userdata, struct listener **ret)
{
    struct listener *listener = calloc(1, sizeof(*listener));
    if (!listener)
        return -ENOMEM;
    listener->loop = settings->loop;
    listener->on_accept = on_accept;
    listener->userdata = userdata;
    ev_init(&listener->pause, listener_on_pause_over);
    listener->pause.repeat = PAUSE;
    listener->pause.data = listener;
    int err = listener_bind(listener, settings->bind, settings->port);
    if (err != 0) {
        listener_free(listener);
        return condition_of(err);
    }
    *ret = listener;
    return 0;
}

struct listener *listener_free(struct listener *listener)
{
    if (!listener)
        return NULL;
    ev_timer_stop(listener->loop, &listener->pause);
    listener_close(listener);
    free(listener);
    return NULL;
}

void listener_start(struct listener *listener)
{
    listener->is_started = true;
    if (!ev_is_active(&listener->pause))
        listener_watch(listener, true);
}

void listener_stop(struct listener *listener)
{
    listener->is_started = false;
    listener_watch(listener, false);
}

uint16_t listener_port(const struct listener *listener)
{
    return gt_addr_port(&listener->addr);
}

const struct gt_addr *listener_addr(const struct listener *listener)
{
    return &listener->addr;
}
