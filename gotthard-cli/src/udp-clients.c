/* SPDX-License-Identifier: ISC */
/*
 * Datagrams do not wait: what a stream or a socket does not take is dropped. Senders wait for a
 * stream, for a short time. See the header.
 */
#include "udp-clients.h"

#include <string.h>

#include "gotthard/tunnel/datagrams.h"
#include "gotthard/tunnel/tunnel.h"

#define TURN_MAX     32  /* datagrams in one turn of the loop */
#define UNANSWERED_S 1.  /* a client that awaits an answer keeps its stream for this long */
#define WAITING_S    3.  /* for a stream; later its datagrams would be of no use */
#define ROOM_S       0.1 /* between two attempts to find one */
#define FAILED_S     1.  /* after a failure no stream is opened */

struct udp_client {
    struct gt_list link;
    struct udp_clients *clients;
    int fd;         /* borrowed: the socket at which it sends */
    int stream_end; /* owned until the stream is open, then -1 */
    struct gt_addr addr;
    ev_tstamp began_at, used_at;
    bool is_answered;               /* the last datagram was one to the sender */
    struct gt_datagrams *datagrams; /* owned */
};

static void client_free(struct udp_client *client)
{
    gt_list_unlink(&client->link);
    client->clients->n--;
    gt_close(&client->stream_end);
    gt_datagrams_free(client->datagrams);
    free(client);
}

/* Keeps the order by last use. */
static void client_touch(struct udp_client *client, bool is_answered)
{
    client->is_answered = is_answered;
    client->used_at = ev_now(client->clients->loop);
    gt_list_unlink(&client->link);
    gt_list_append(&client->clients->all, &client->link);
}

static void client_on_datagram(void *userdata, const uint8_t *data, size_t n)
{
    struct udp_client *client = userdata;

    client_touch(client, true);
    (void)sendto(client->fd, data, n, MSG_NOSIGNAL | MSG_DONTWAIT, &client->addr.any,
                 client->addr.n);
}

static void client_on_end(void *userdata)
{
    client_free(userdata);
}

static bool client_waits(const struct udp_client *client)
{
    return client->stream_end >= 0;
}

/* Returns as clients->open; the client waits after E_FULL, and must be freed after a failure. */
static int client_open(struct udp_client *client)
{
    struct udp_clients *clients = client->clients;
    int r = clients->open(clients->userdata, client->stream_end, &client->addr);

    if (r != GT_TUNNEL_E_FULL)
        client->stream_end = -1;
    if (r != 0 && r != GT_TUNNEL_E_FULL)
        clients->failed_at = ev_now(clients->loop);
    return r;
}

/* From the one that was used last: most datagrams are of few clients. */
static struct udp_client *udp_clients_find(const struct udp_clients *clients, int fd,
                                           const struct gt_addr *addr)
{
    for (struct gt_list *at = clients->all.previous; at != &clients->all; at = at->previous) {
        struct udp_client *client = gt_list_entry(at, struct udp_client, link);

        if (client->fd == fd && client->addr.n == addr->n &&
            memcmp(&client->addr.any, &addr->any, addr->n) == 0)
            return client;
    }
    return NULL;
}

/* Frees the client whose stream was unused longest, of those that have their answer or have waited
 * for it long enough. Its stream ends a round trip later. */
static void udp_clients_make_room(struct udp_clients *clients)
{
    ev_tstamp now = ev_now(clients->loop);

    gt_list_for_each_safe (at, next, &clients->all) {
        struct udp_client *client = gt_list_entry(at, struct udp_client, link);

        if (!client_waits(client) &&
            (client->is_answered || now - client->used_at >= UNANSWERED_S)) {
            client_free(client);
            return;
        }
    }
}

/* Opens streams for waiting clients, the longest unused first. Returns the number of those that
 * wait on. */
static unsigned udp_clients_serve_waiting(struct udp_clients *clients)
{
    ev_tstamp now = ev_now(clients->loop);
    unsigned n_waiting = 0;

    gt_list_for_each_safe (at, next, &clients->all) {
        struct udp_client *client = gt_list_entry(at, struct udp_client, link);

        if (!client_waits(client))
            continue;
        int r = now - client->began_at < WAITING_S ? client_open(client) : -ETIMEDOUT;
        if (r == GT_TUNNEL_E_FULL)
            n_waiting++;
        else if (r != 0)
            client_free(client);
    }
    return n_waiting;
}

static void udp_clients_on_room(struct ev_loop *loop, ev_timer *watcher, int revents)
{
    struct udp_clients *clients = watcher->data;
    unsigned n_waiting = udp_clients_serve_waiting(clients);

    if (n_waiting == 0)
        ev_timer_stop(loop, watcher);
    if (revents & EV_CUSTOM) /* a stream has ended; room is made by time */
        return;
    for (; n_waiting > 0; n_waiting--)
        udp_clients_make_room(clients);
}

/* Returns NULL if it gets no stream. */
static struct udp_client *client_start(struct udp_client *client)
{
    struct udp_clients *clients = client->clients;
    int r = client_open(client);

    if (r == GT_TUNNEL_E_FULL) {
        udp_clients_make_room(clients);
        if (!ev_is_active(&clients->room))
            ev_timer_again(clients->loop, &clients->room);
    } else if (r != 0) {
        client_free(client);
        return NULL;
    }
    return client;
}

/* Returns NULL if there is no stream for it. */
static struct udp_client *udp_clients_add(struct udp_clients *clients, int fd,
                                          const struct gt_addr *addr)
{
    static const struct gt_datagrams_events events = {client_on_datagram, client_on_end};
    ev_tstamp now = ev_now(clients->loop);
    struct udp_client *client;
    int ends[2];

    if (clients->failed_at > 0 && now - clients->failed_at < FAILED_S)
        return NULL;
    if (clients->n >= UDP_CLIENTS_MAX)
        client_free(gt_list_entry(clients->all.next, struct udp_client, link));
    client = calloc(1, sizeof(*client));
    if (!client || gt_sock_pair(ends) != 0) {
        free(client);
        return NULL;
    }
    *client = (struct udp_client){.clients = clients,
                                  .fd = fd,
                                  .stream_end = ends[1],
                                  .addr = *addr,
                                  .began_at = now,
                                  .used_at = now};
    gt_list_append(&clients->all, &client->link);
    clients->n++;
    if (gt_datagrams_new(clients->loop, ends[0], 0., &events, client, &client->datagrams) != 0) {
        client_free(client);
        return NULL;
    }
    return client_start(client);
}

static void udp_clients_on_datagram(struct udp_clients *clients, int fd, const struct gt_addr *addr,
                                    const uint8_t *data, size_t n)
{
    struct udp_client *client = udp_clients_find(clients, fd, addr);

    if (!client)
        client = udp_clients_add(clients, fd, addr);
    if (!client)
        return;
    client_touch(client, false);
    (void)gt_datagrams_send(client->datagrams, data, n);
}

static void udp_clients_on_readable(struct ev_loop *loop, ev_io *watcher, int revents)
{
    static uint8_t data[GT_DATAGRAM_MAX];
    struct udp_clients *clients = watcher->data;

    for (int i = 0; i < TURN_MAX; i++) {
        struct gt_addr addr = {.n = sizeof(addr.storage)};
        ssize_t n = recvfrom(watcher->fd, data, sizeof(data), MSG_TRUNC, &addr.any, &addr.n);

        if (n < 0)
            return;
        if (!clients->is_paused && (size_t)n <= sizeof(data)) /* IPv6 has longer ones */
            udp_clients_on_datagram(clients, watcher->fd, &addr, data, (size_t)n);
    }
}

void udp_clients_init(struct udp_clients *clients, struct ev_loop *loop, const int *fds, size_t n,
                      int (*open)(void *userdata, int fd, const struct gt_addr *peer),
                      void *userdata)
{
    *clients = (struct udp_clients){.loop = loop, .open = open, .userdata = userdata};
    gt_list_init(&clients->all);
    ev_init(&clients->room, udp_clients_on_room);
    clients->room.repeat = ROOM_S;
    clients->room.data = clients;
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
    ev_timer_stop(clients->loop, &clients->room);
    gt_list_for_each_safe (at, next, &clients->all)
        client_free(gt_list_entry(at, struct udp_client, link));
}

void udp_clients_start(struct udp_clients *clients)
{
    for (size_t i = 0; i < clients->n_sockets; i++)
        ev_io_start(clients->loop, &clients->readable[i]);
    if (ev_is_active(&clients->room))
        ev_feed_event(clients->loop, &clients->room, EV_CUSTOM);
}

void udp_clients_pause(struct udp_clients *clients, bool is_paused)
{
    clients->is_paused = is_paused;
}
