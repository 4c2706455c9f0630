/* SPDX-License-Identifier: ISC */
/*
 * Opens the main port. "*" means all addresses of both families, or of IPv4 on a system without
 * IPv6. Sockets of the service manager are used as they are.
 */
#include "control/main-listener.h"

#include <string.h>

#include "gotthard/base/log.h"
#include "gotthard/base/notify.h"

#define FIRST_LISTEN_FD 3 /* sd_listen_fds(3) */

static int main_listener_bind(const char *bind, uint16_t port, struct gt_addr *ret_addr,
                              int *ret_fd)
{
    bool is_any = strcmp(bind, "*") == 0;
    const char *const hosts[] = {is_any ? "::" : bind, is_any ? "0.0.0.0" : bind};
    int fd = -EINVAL;

    for (size_t i = 0; i < GT_ARRAY_SIZE(hosts); i++) {
        if (gt_addr_parse(hosts[i], port, ret_addr))
            return -EINVAL;
        fd = gt_sock_listen(ret_addr, GT_SOCK_BACKLOG);
        if (fd != -EAFNOSUPPORT && fd != -EADDRNOTAVAIL)
            break;
    }
    if (fd < 0)
        return fd;
    *ret_fd = fd;
    return 0;
}

/* Starts to accept on @fd, and takes it. There must be room for one more. */
static void main_listener_add(struct main_listener *main_listener, struct ev_loop *loop, int fd,
                              gt_acceptor_fn on_accept, void *userdata)
{
    struct gt_acceptor *acceptor = &main_listener->acceptors[main_listener->n_acceptors];

    gt_sock_set_defer_accept(fd);
    if (main_listener->n_acceptors++ == 0)
        gt_reserve_fd_init(&main_listener->reserve);
    gt_acceptor_init(acceptor, loop, fd, &main_listener->reserve, on_accept, userdata);
    gt_acceptor_start(acceptor);
}

static int main_listener_inherit(struct main_listener *main_listener, struct ev_loop *loop,
                                 unsigned n_inherited, const char *bind, gt_acceptor_fn on_accept,
                                 void *userdata, struct gt_addr *ret_bind)
{
    const char *address = strcmp(bind, "*") == 0 ? "::" : bind;

    if (gt_addr_parse(address, 0, ret_bind)) {
        gt_error("server.bind: invalid address \"%s\"", bind);
        return MAIN_LISTENER_E_LISTEN;
    }
    for (unsigned i = 0; i < n_inherited && i < MAIN_LISTENER_MAX; i++)
        main_listener_add(main_listener, loop, FIRST_LISTEN_FD + (int)i, on_accept, userdata);
    return 0;
}

static const char *hint_of(int err)
{
    if (err == -EACCES || err == -EPERM)
        return "a port below 1024 needs CAP_NET_BIND_SERVICE, which the shipped unit has "
               "(AmbientCapabilities=); or set another server.port";
    if (err == -EADDRINUSE)
        return "another program uses this port, and `ss -ltnp` shows it; or set another server.port";
    if (err == -EADDRNOTAVAIL)
        return "server.bind must be an address of this machine, or *";
    return "check server.bind and server.port";
}

int main_listener_open(struct main_listener *main_listener, struct ev_loop *loop, const char *bind,
                       uint16_t port, gt_acceptor_fn on_accept, void *userdata,
                       struct gt_addr *ret_bind)
{
    unsigned n_inherited = gt_notify_listen_fds();
    int fd;

    if (n_inherited)
        return main_listener_inherit(main_listener, loop, n_inherited, bind, on_accept, userdata,
                                     ret_bind);
    int r = main_listener_bind(bind, port, ret_bind, &fd);
    if (r) {
        gt_error("cannot listen on %s port %u reason=\"%s\" hint=\"%s\"", bind, port,
                 strerror(abs(r)), hint_of(r));
        return MAIN_LISTENER_E_LISTEN;
    }
    main_listener_add(main_listener, loop, fd, on_accept, userdata);
    return 0;
}

uint16_t main_listener_port(const struct main_listener *main_listener, uint16_t fallback)
{
    struct gt_addr addr;

    if (main_listener->n_acceptors == 0 || gt_sock_local(main_listener->acceptors[0].fd, &addr))
        return fallback;
    return gt_addr_port(&addr);
}

void main_listener_pause(struct main_listener *main_listener)
{
    for (size_t i = 0; i < main_listener->n_acceptors; i++)
        gt_acceptor_pause(&main_listener->acceptors[i]);
}

void main_listener_close(struct main_listener *main_listener)
{
    if (main_listener->n_acceptors == 0)
        return;
    for (size_t i = 0; i < main_listener->n_acceptors; i++)
        gt_acceptor_deinit(&main_listener->acceptors[i]);
    gt_reserve_fd_deinit(&main_listener->reserve);
    main_listener->n_acceptors = 0;
}

/* --- snapshot --------------------------------------------------------------------------------- */

static const struct saved_fd main_listener_fds[] = {SAVED_SOCKET(struct saved_main_listener, fd)};

const struct saved_layout main_listener_layout = {.kind = SAVED_MAIN_LISTENER,
                                                  SAVED_LAYOUT_FDS(main_listener_fds)};

void main_listener_save(const struct main_listener *main_listener, struct gt_writer *writer)
{
    for (size_t i = 0; i < main_listener->n_acceptors; i++)
        saved_layout_write(&main_listener_layout, writer,
                           &(struct saved_main_listener){main_listener->acceptors[i].fd});
}

int main_listener_restore(struct main_listener *main_listener, struct ev_loop *loop,
                          const struct saved_main_listener *saved, gt_acceptor_fn on_accept,
                          void *userdata)
{
    int fd = saved->fd;

    if (main_listener->n_acceptors == MAIN_LISTENER_MAX) {
        gt_close(&fd);
        return MAIN_LISTENER_E_LISTEN;
    }
    main_listener_add(main_listener, loop, fd, on_accept, userdata);
    return 0;
}
