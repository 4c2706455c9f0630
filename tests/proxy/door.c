/* SPDX-License-Identifier: ISC */
/*
 * Accepts, and does with who came what the order of the day says: lets him through, holds him, or
 * resets him. A kernel's handshake cannot be withheld from here.
 */
#include "door.h"

#define DOOR_BACKLOG 1024

static void door_welcome(struct door *door, int here)
{
    struct proxy *proxy = door->proxy;

    proxy->n_accepted++;
    if (proxy->welcome == PROXY_REFUSE)
        gt_sock_reset(here);
    else
        connection_new(proxy, here, &door->at, &door->to);
}

static void door_on_readable(struct ev_loop *loop, ev_io *watcher, int events)
{
    struct door *door = watcher->data;
    struct gt_addr from;
    int here = gt_sock_accept(door->listener, &from);

    if (here >= 0)
        door_welcome(door, here);
}

int door_open(struct proxy *proxy, const struct gt_addr *at, const struct gt_addr *to,
              uint16_t *ret_port)
{
    gt_cleanup(gt_close) int listener = gt_sock_listen(at, DOOR_BACKLOG);
    struct gt_addr bound = *at;
    struct door *door;

    if (listener < 0)
        return listener;
    if (gt_sock_local(listener, &bound) < 0 || !(door = calloc(1, sizeof(*door))))
        return -ENOMEM;
    door->proxy = proxy;
    door->listener = gt_steal_fd(&listener);
    door->at = bound;
    door->to = *to;
    ev_io_init(&door->readable, door_on_readable, door->listener, EV_READ);
    door->readable.data = door;
    ev_io_start(proxy->loop, &door->readable);
    gt_list_append(&proxy->doors, &door->element);
    *ret_port = gt_addr_port(&bound);
    return 0;
}

void door_close(struct door *door)
{
    ev_io_stop(door->proxy->loop, &door->readable);
    gt_close(&door->listener);
    gt_list_unlink(&door->element);
    free(door);
}
