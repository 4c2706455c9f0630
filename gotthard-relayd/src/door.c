/* SPDX-License-Identifier: ISC */
/*
 * Opening the main port. "*" is every address of both families, or of IPv4 where the system has no
 * IPv6; what the service manager hands in is taken as it is.
 */
#include "door.h"

#include <string.h>

#include "gotthard/log.h"
#include "gotthard/notify.h"

#define BACKLOG         1024
#define FIRST_LISTEN_FD 3 /* sd_listen_fds(3) */

static int door_bind(const char *bind, uint16_t port, struct gt_addr *ret_addr, int *ret_fd)
{
    bool is_any = !strcmp(bind, "*");
    const char *const hosts[] = {is_any ? "::" : bind, is_any ? "0.0.0.0" : bind};
    int fd = -EINVAL;

    for (size_t i = 0; i < GT_ARRAY_SIZE(hosts); i++) {
        if (gt_addr_parse(hosts[i], port, ret_addr))
            return -EINVAL;
        fd = gt_sock_listen(ret_addr, BACKLOG);
        if (fd != -EAFNOSUPPORT && fd != -EADDRNOTAVAIL)
            break;
    }
    if (fd < 0)
        return fd;
    *ret_fd = fd;
    return 0;
}

static int door_take(struct door *door, struct ev_loop *loop, unsigned n_given, const char *bind,
                     listener_fn on_accept, void *userdata, struct gt_addr *ret_bind)
{
    if (gt_addr_parse(strcmp(bind, "*") ? bind : "::", 0, ret_bind)) {
        gt_error("server.bind: \"%s\" is no address", bind);
        return DOOR_E_LISTEN;
    }
    spare_init(&door->spare);
    for (unsigned i = 0; i < n_given && i < DOOR_MAX; i++)
        listener_start(&door->listeners[door->n_listeners++], loop, FIRST_LISTEN_FD + (int)i,
                       &door->spare, on_accept, userdata);
    return 0;
}

int door_open(struct door *door, struct ev_loop *loop, const char *bind, uint16_t port,
              listener_fn on_accept, void *userdata, struct gt_addr *ret_bind)
{
    unsigned n_given = gt_notify_listen_fds();
    int fd;

    if (n_given)
        return door_take(door, loop, n_given, bind, on_accept, userdata, ret_bind);
    int r = door_bind(bind, port, ret_bind, &fd);
    if (r) {
        gt_error_errno(r, "cannot listen on %s port %u", bind, port);
        return DOOR_E_LISTEN;
    }
    spare_init(&door->spare);
    listener_start(&door->listeners[door->n_listeners++], loop, fd, &door->spare, on_accept,
                   userdata);
    return 0;
}

int door_adopt(struct door *door, struct ev_loop *loop, int fd, listener_fn on_accept,
               void *userdata)
{
    if (door->n_listeners == DOOR_MAX) {
        gt_close(&fd);
        return DOOR_E_LISTEN;
    }
    if (!door->n_listeners)
        spare_init(&door->spare);
    listener_start(&door->listeners[door->n_listeners++], loop, fd, &door->spare, on_accept,
                   userdata);
    return 0;
}

uint16_t door_port(const struct door *door, uint16_t fallback)
{
    struct gt_addr addr;

    if (!door->n_listeners || gt_sock_local(door->listeners[0].fd, &addr))
        return fallback;
    return gt_addr_port(&addr);
}

void door_pause(struct door *door)
{
    for (size_t i = 0; i < door->n_listeners; i++)
        listener_pause(&door->listeners[i]);
}

void door_close(struct door *door)
{
    if (!door->n_listeners)
        return;
    for (size_t i = 0; i < door->n_listeners; i++)
        listener_stop(&door->listeners[i]);
    spare_deinit(&door->spare);
    door->n_listeners = 0;
}
