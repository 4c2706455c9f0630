/* SPDX-License-Identifier: ISC */
/* Nothing waits here: what a stream or a socket does not take is dropped. See the header. */
#include "udp-clients.h"

#include <string.h>

#include "gotthard/tunnel/datagrams.h"

#define TURN_MAX 32 /* datagrams in one turn of the loop */

struct udp_client {
    struct gt_list link;
    struct udp_clients *clients;
    int fd; /* borrowed: the socket at which it sends */
    struct gt_addr addr;
    struct gt_datagrams *datagrams; /* owned */
};

static void client_free(struct udp_client *client)
{
    gt_list_unlink(&client->link);
    client->clients->n--;
    gt_datagrams_free(client->datagrams);
    free(client);
}

static void client_on_datagram(void *userdata, const uint8_t *data, size_t n)
{
    const struct udp_client *client = userdata;

    (void)sendto(client->fd, data, n, MSG_NOSIGNAL | MSG_DONTWAIT, &client->addr.any,
                 client->addr.n);
}

static void client_on_end(void *userdata)
{
    client_free(userdata);
}

static struct udp_client *udp_clients_find(const struct udp_clients *clients, int fd,
                                           const struct gt_addr *addr)
{
    gt_list_for_each_safe (at, next, &clients->all) {
        struct udp_client *client = gt_list_entry(at, struct udp_client, link);

        if (client->fd == fd && client->addr.n == addr->n &&
            memcmp(&client->addr.any, &addr->any, addr->n) == 0)
            return client;
    }
    return NULL;
}

/* Returns NULL if there is no stream for it. */
static struct udp_client *udp_clients_add(struct udp_clients *clients, int fd,
                                          const struct gt_addr *addr)
{
    static const struct gt_datagrams_events events = {client_on_datagram, client_on_end};
    struct udp_client *client = clients->n < UDP_CLIENTS_MAX ? calloc(1, sizeof(*client)) : NULL;
    int ends[2];

    if (!client || gt_sock_pair(ends) != 0) {
        free(client);
        return NULL;
    }
    *client = (struct udp_client){.clients = clients, .fd = fd, .addr = *addr};
    gt_list_append(&clients->all, &client->link);
    clients->n++;
    if (gt_datagrams_new(clients->loop, ends[0], 0., &events, client, &client->datagrams) != 0) {
        close(ends[1]);
        client_free(client);
        return NULL;
    }
    if (clients->open(clients->userdata, ends[1], addr) != 0) {
        client_free(client);
        return NULL;
    }
    return client;
}

static void udp_clients_on_readable(struct ev_loop *loop, ev_io *watcher, int revents)
{
    static uint8_t data[GT_DATAGRAM_MAX];
    struct udp_clients *clients = watcher->data;

    for (int i = 0; i < TURN_MAX; i++) {
        struct gt_addr addr = {.n = sizeof(addr.storage)};
        ssize_t n = recvfrom(watcher->fd, data, sizeof(data), 0, &addr.any, &addr.n);

        if (n < 0)
            return;
        struct udp_client *client = udp_clients_find(clients, watcher->fd, &addr);
        if (!client)
            client = udp_clients_add(clients, watcher->fd, &addr);
        if (client)
            (void)gt_datagrams_send(client->datagrams, data, (size_t)n);
    }
}

void udp_clients_init(struct udp_clients *clients, struct ev_loop *loop, const int *fds, size_t n,
                      int (*open)(void *userdata, int fd, const struct gt_addr *peer),
                      void *userdata)
{
    *clients = (struct udp_clients){.loop = loop, .open = open, .userdata = userdata};
    gt_list_init(&clients->all);
    for (; clients->n_sockets < n && clients->n_sockets < UDP_SOCKETS_MAX; clients->n_sockets++) {
        ev_io *readable = &clients->readable[clients->n_sockets];

        ev_io_init(readable, udp_clients_on_readable, fds[clients->n_sockets], EV_READ);
        readable->data = clients;
    }
}

void udp_clients_deinit(struct udp_clients *clients)
{
    for (size_t i = 0; i < clients->n_sockets; i++)
        ev_io_stop(clients->loop, &clients->readable[i]);
    gt_list_for_each_safe (at, next, &clients->all)
        client_free(gt_list_entry(at, struct udp_client, link));
}

void udp_clients_start(struct udp_clients *clients)
{
    for (size_t i = 0; i < clients->n_sockets; i++)
        ev_io_start(clients->loop, &clients->readable[i]);
}
