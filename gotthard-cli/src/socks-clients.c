/* SPDX-License-Identifier: ISC */
/*
 * The connections of SOCKS clients; see the header. Nothing here waits: a reply has 10 bytes and
 * always fits into the empty buffer of a connection, or the connection is given up.
 */
#include "socks-clients.h"

#include <string.h>

#include "gotthard/net/sock.h"
#include "gotthard/tunnel/tunnel.h"
#include "socks.h"

#define NEGOTIATING_S 10.
#define WAITING_S     120. /* for a stream */
#define CONNECTING_S  120. /* the device has its own, shorter limit; the tunnel may be away */
#define REPLIED_S     5.
#define DISCARD_MAX   (64 * 1024) /* bytes of a refused client */

enum client_state { CLIENT_NEGOTIATING, CLIENT_WAITING, CLIENT_CONNECTING, CLIENT_REPLIED };

struct socks_client {
    struct gt_list link;
    struct socks_clients *clients;
    enum client_state state;
    int fd; /* owned */
    ev_io readable;
    ev_timer deadline;
    struct local_peer peer;
    struct socks socks;
    uint32_t stream;    /* CONNECTING */
    size_t n_discarded; /* REPLIED */
};

static void client_enter(struct socks_client *client, enum client_state state)
{
    static const double limits[] = {
        [CLIENT_NEGOTIATING] = NEGOTIATING_S,
        [CLIENT_WAITING] = WAITING_S,
        [CLIENT_CONNECTING] = CONNECTING_S,
        [CLIENT_REPLIED] = REPLIED_S,
    };
    struct ev_loop *loop = client->clients->loop;

    client->state = state;
    ev_timer_stop(loop, &client->deadline);
    ev_timer_set(&client->deadline, limits[state], 0.);
    ev_timer_start(loop, &client->deadline);
}

/* Returns the descriptor. */
static int client_free(struct socks_client *client)
{
    struct socks_clients *clients = client->clients;
    int fd = client->fd;

    ev_io_stop(clients->loop, &client->readable);
    ev_timer_stop(clients->loop, &client->deadline);
    gt_list_unlink(&client->link);
    bool was_full = socks_clients_is_full(clients);
    clients->n--;
    free(client);
    if (was_full)
        clients->events->on_room(clients->userdata);
    return fd;
}

static void client_reset(struct socks_client *client)
{
    gt_sock_reset(client_free(client));
}

static bool client_send(struct socks_client *client, const uint8_t *data, size_t n)
{
    return send(client->fd, data, n, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)n;
}

/* After the last bytes to the client. It has time to read them: unread bytes of its own would turn
 * the close into a reset. */
static void client_finish(struct socks_client *client)
{
    if (shutdown(client->fd, SHUT_WR) < 0) {
        client_reset(client);
        return;
    }
    client_enter(client, CLIENT_REPLIED);
    ev_io_start(client->clients->loop, &client->readable);
}

static void client_reply(struct socks_client *client, enum socks_reply reply)
{
    uint8_t bytes[SOCKS_OUT_MAX];

    if (client_send(client, bytes, socks_write_reply(reply, bytes)))
        client_finish(client);
    else
        client_reset(client);
}

/* --- the states ------------------------------------------------------------------------------- */

/* Opens the stream. Without room for it the client waits for the end of another one: returns
 * false. */
static bool client_request(struct socks_client *client)
{
    const struct socks_clients *clients = client->clients;
    int r = clients->events->open(clients->userdata, client->socks.target, &client->peer,
                                  &client->stream);

    if (r == GT_TUNNEL_E_FULL) {
        if (client->state != CLIENT_WAITING)
            client_enter(client, CLIENT_WAITING);
        return false;
    }
    if (r != 0)
        client_reply(client, SOCKS_GENERAL);
    else
        client_enter(client, CLIENT_CONNECTING);
    return true;
}

/* Acts on what the negotiation has come to. */
static void client_proceed(struct socks_client *client)
{
    struct socks *socks = &client->socks;
    size_t n = socks->n_out;

    socks->n_out = 0;
    if (n > 0 && !client_send(client, socks->out, n))
        client_reset(client);
    else if (socks->state == SOCKS_READY)
        (void)client_request(client);
    else if (socks->state == SOCKS_FAILED && n > 0)
        client_finish(client);
    else if (socks->state == SOCKS_FAILED)
        client_reset(client);
}

static void client_negotiate(struct socks_client *client)
{
    uint8_t data[SOCKS_IN_MAX];
    ssize_t n = recv(client->fd, data, GT_MIN(socks_wanted(&client->socks), sizeof(data)), 0);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        client_reset(client);
        return;
    }
    socks_consume(&client->socks, data, (size_t)n);
    client_proceed(client);
}

/* Bytes that come before the reply are for the target: they stay in the kernel. */
static void client_look(struct socks_client *client)
{
    const struct socks_clients *clients = client->clients;
    bool has_stream = client->state == CLIENT_CONNECTING;
    uint32_t stream = client->stream;
    uint8_t byte;
    ssize_t n = recv(client->fd, &byte, 1, MSG_PEEK);

    if (n > 0) {
        ev_io_stop(clients->loop, &client->readable);
    } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        client_reset(client);
        if (has_stream)
            clients->events->cancel(clients->userdata, stream);
    }
}

static void client_discard(struct socks_client *client)
{
    uint8_t data[4096];
    ssize_t n = recv(client->fd, data, sizeof(data), 0);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n == 0) {
        gt_sock_set_abortive(client->fd, false);
        close(client_free(client));
    } else if (n < 0 || (client->n_discarded += (size_t)n) > DISCARD_MAX)
        client_reset(client);
}

static void client_on_readable(struct ev_loop *loop, ev_io *watcher, int revents)
{
    struct socks_client *client = watcher->data;

    switch (client->state) {
    case CLIENT_NEGOTIATING: client_negotiate(client); break;
    case CLIENT_WAITING:
    case CLIENT_CONNECTING: client_look(client); break;
    case CLIENT_REPLIED: client_discard(client); break;
    }
}

static void client_on_deadline(struct ev_loop *loop, ev_timer *watcher, int revents)
{
    struct socks_client *client = watcher->data;
    const struct socks_clients *clients = client->clients;
    uint32_t stream = client->stream;

    switch (client->state) {
    case CLIENT_NEGOTIATING:
    case CLIENT_REPLIED: client_reset(client); break;
    case CLIENT_WAITING: client_reply(client, SOCKS_GENERAL); break;
    case CLIENT_CONNECTING:
        client_reply(client, SOCKS_TIMED_OUT);
        clients->events->cancel(clients->userdata, stream);
        break;
    }
}

/* --- the list --------------------------------------------------------------------------------- */

static void socks_clients_on_retry(struct ev_loop *loop, ev_timer *watcher, int revents)
{
    const struct socks_clients *clients = watcher->data;

    gt_list_for_each_safe (at, next, &clients->all) {
        struct socks_client *client = gt_list_entry(at, struct socks_client, link);

        if (client->state == CLIENT_WAITING && !client_request(client))
            return;
    }
}

void socks_clients_init(struct socks_clients *clients, struct ev_loop *loop,
                        const struct socks_clients_events *events, void *userdata)
{
    *clients = (struct socks_clients){.loop = loop, .events = events, .userdata = userdata};
    gt_list_init(&clients->all);
    ev_timer_init(&clients->retry, socks_clients_on_retry, 0., 0.);
    clients->retry.data = clients;
}

void socks_clients_deinit(struct socks_clients *clients)
{
    ev_timer_stop(clients->loop, &clients->retry);
    gt_list_for_each_safe (at, next, &clients->all)
        client_reset(gt_list_entry(at, struct socks_client, link));
}

bool socks_clients_is_full(const struct socks_clients *clients)
{
    return clients->n >= SOCKS_CLIENTS_MAX;
}

void socks_clients_add(struct socks_clients *clients, int fd, const struct local_peer *peer)
{
    struct socks_client *client =
        socks_clients_is_full(clients) ? NULL : calloc(1, sizeof(*client));

    if (!client) {
        gt_sock_reset(fd);
        return;
    }
    client->clients = clients;
    client->fd = fd;
    client->peer = *peer;
    ev_io_init(&client->readable, client_on_readable, fd, EV_READ);
    ev_init(&client->deadline, client_on_deadline);
    client->readable.data = client->deadline.data = client;
    gt_list_append(&clients->all, &client->link);
    clients->n++;
    client_enter(client, CLIENT_NEGOTIATING);
    ev_io_start(clients->loop, &client->readable);
}

static struct socks_client *socks_clients_find(const struct socks_clients *clients, uint32_t stream)
{
    gt_list_for_each_safe (at, next, &clients->all) {
        struct socks_client *client = gt_list_entry(at, struct socks_client, link);

        if (client->state == CLIENT_CONNECTING && client->stream == stream)
            return client;
    }
    return NULL;
}

void socks_clients_connected(struct socks_clients *clients, uint32_t stream)
{
    struct socks_client *client = socks_clients_find(clients, stream);
    uint8_t bytes[SOCKS_OUT_MAX];

    if (!client)
        return;
    if (client_send(client, bytes, socks_write_reply(SOCKS_SUCCEEDED, bytes))) {
        clients->events->serve(clients->userdata, stream, client_free(client));
    } else {
        client_reset(client);
        clients->events->cancel(clients->userdata, stream);
    }
}

void socks_clients_ended(struct socks_clients *clients, uint32_t stream, enum gt_rst code)
{
    struct socks_client *client = socks_clients_find(clients, stream);

    if (client)
        client_reply(client, socks_reply_of(code));
}

void socks_clients_retry(struct socks_clients *clients)
{
    ev_timer_start(clients->loop, &clients->retry);
}
