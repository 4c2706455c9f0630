/* SPDX-License-Identifier: ISC */
/*
 * A table of the requests that each state permits drives the clients; see the header.
 */
#include "holder-server.h"

#include <stdio.h>
#include <string.h>

#include "gotthard/base/log.h"
#include "gotthard/net/peer-uid.h"
#include "holder-wire.h"

static void client_free(struct holder_client *client)
{
    struct holder_server *server = client->server;

    ev_io_stop(server->loop, &client->io);
    ev_timer_stop(server->loop, &client->deadline);
    gt_close(&client->fd);
    gt_endpoint_fds_reset(client->fds);
    gt_list_unlink(&client->link);
    free(client);
    if (server->n_clients-- == HOLDER_CLIENTS_MAX && server->is_listening)
        gt_acceptor_start(&server->acceptor);
}

static void client_drop(struct holder_client *client)
{
    struct holder_server *server = client->server;

    bool is_open = client->state == HOLDER_CLIENT_OPENING;

    client->state = HOLDER_CLIENT_GONE;
    if (is_open)
        server->events->on_gone(server->userdata, client);
    client_free(client);
}

/* A client that does not read loses the message. The loss of a log line is not logged: in a holder
 * each line becomes such a message again. */
static void client_send(struct holder_client *client, const struct holder_message *message)
{
    bool is_log = message->type == HOLDER_NOTICE && message->notice.kind == HOLDER_NOTICE_LOG;

    if (holder_wire_send(client->fd, message, NULL) != 0 && !is_log)
        gt_debug("control socket: a message was not delivered");
}

static void client_send_type(struct holder_client *client, enum holder_message_type type)
{
    client_send(client, &(struct holder_message){.type = type});
}

static void client_enter(struct holder_client *client, enum holder_client_state state)
{
    struct ev_loop *loop = client->server->loop;

    client->state = state;
    ev_timer_stop(loop, &client->deadline);
    if (state == HOLDER_CLIENT_OPENING)
        return; /* the owner's session has its own deadlines */
    ev_now_update(loop);
    ev_timer_set(&client->deadline, HOLDER_CLIENT_S, 0);
    ev_timer_start(loop, &client->deadline);
}

/* --- requests: each returns false if the client is to be closed --------------------------------
 */

static bool on_hello(struct holder_client *client, const struct holder_message *message)
{
    const struct holder_server *server = client->server;

    if (!server->events->is_current)
        return false;
    if (!server->events->is_current(server->userdata, message->check)) {
        client_send_type(client, HOLDER_STALE);
        return false;
    }
    client_send_type(client, HOLDER_READY);
    client_enter(client, HOLDER_CLIENT_READY);
    return true;
}

/* The owner may end the client within on_open: nothing comes after it. */
static bool on_open(struct holder_client *client, const struct holder_message *message)
{
    struct holder_server *server = client->server;

    snprintf(client->service, sizeof(client->service), "%s", message->service);
    client_send_type(client, HOLDER_ACCEPTED);
    client_enter(client, HOLDER_CLIENT_OPENING);
    server->events->on_open(server->userdata, client);
    return true;
}

static bool on_status_query(struct holder_client *client, const struct holder_message *message)
{
    const struct holder_server *server = client->server;
    struct holder_message answer = {.type = HOLDER_STATUS};

    server->events->get_status(server->userdata, &answer.status);
    client_send(client, &answer);
    return false;
}

static void send_host_keys(struct holder_client *client, const char *lines)
{
    struct holder_message answer = {.type = HOLDER_HOST_KEYS};

    snprintf(answer.host_keys, sizeof(answer.host_keys), "%s", lines);
    client_send(client, &answer);
}

static bool on_host_keys_query(struct holder_client *client, const struct holder_message *message)
{
    const struct holder_server *server = client->server;
    const char *lines =
        server->events->host_keys ? server->events->host_keys(server->userdata) : "";

    if (lines)
        send_host_keys(client, lines);
    else
        client_enter(client, HOLDER_CLIENT_ASKING);
    return !lines;
}

void holder_server_answer(struct holder_server *server)
{
    gt_list_for_each_safe (at, next, &server->clients) {
        struct holder_client *client = gt_list_entry(at, struct holder_client, link);

        if (client->state != HOLDER_CLIENT_ASKING)
            continue;
        send_host_keys(client, server->events->host_keys(server->userdata));
        client_free(client);
    }
}

static const struct {
    enum holder_message_type type;
    enum holder_client_state state;
    bool (*handle)(struct holder_client *client, const struct holder_message *message);
} requests[] = {
    {HOLDER_HELLO, HOLDER_CLIENT_NEW, on_hello},
    {HOLDER_OPEN, HOLDER_CLIENT_READY, on_open},
    {HOLDER_STATUS_QUERY, HOLDER_CLIENT_NEW, on_status_query},
    {HOLDER_HOST_KEYS_QUERY, HOLDER_CLIENT_NEW, on_host_keys_query},
};

static void client_on_message(struct holder_client *client, const struct holder_message *message)
{
    for (size_t i = 0; i < GT_ARRAY_SIZE(requests); i++) {
        if (requests[i].type != message->type || requests[i].state != client->state)
            continue;
        if (!requests[i].handle(client, message))
            client_drop(client);
        return;
    }
    client_drop(client);
}

static void client_on_readable(struct ev_loop *loop, ev_io *io, int revents)
{
    struct holder_client *client = io->data;
    struct gt_endpoint_fds fds = gt_endpoint_fds(-1);
    struct holder_message message;
    int r = holder_wire_receive(client->fd, &message, &fds);

    if (r == HOLDER_WIRE_E_AGAIN)
        return;
    if (r != 0) {
        client_drop(client);
        return;
    }
    if (message.type == HOLDER_OPEN && client->state == HOLDER_CLIENT_READY)
        client->fds = fds;
    else
        gt_endpoint_fds_reset(fds);
    client_on_message(client, &message);
}

static void client_on_deadline(struct ev_loop *loop, ev_timer *timer, int revents)
{
    client_drop(timer->data);
}

/* --- the server --------------------------------------------------------------------------------
 */

void holder_server_add(struct holder_server *server, int fd)
{
    struct holder_client *client = calloc(1, sizeof(*client));

    if (!client) {
        close(fd);
        return;
    }
    client->server = server;
    client->fd = fd;
    client->fds = gt_endpoint_fds(-1);
    gt_list_append(&server->clients, &client->link);
    ev_io_init(&client->io, client_on_readable, fd, EV_READ);
    ev_init(&client->deadline, client_on_deadline);
    client->io.data = client->deadline.data = client;
    ev_io_start(server->loop, &client->io);
    client_enter(client, HOLDER_CLIENT_NEW);
    if (++server->n_clients == HOLDER_CLIENTS_MAX && server->is_listening)
        gt_acceptor_stop(&server->acceptor);
}

/* The folder and the mode of the socket admit this user and root only; this is a second lock. */
static void server_on_accept(void *userdata, int fd, const struct gt_addr *peer)
{
    uid_t uid;

    if (gt_peer_uid(fd, &uid) == 0 && (uid == geteuid() || uid == 0))
        holder_server_add(userdata, fd);
    else
        close(fd);
}

void holder_server_init(struct holder_server *server, struct ev_loop *loop,
                        const struct holder_server_events *events, void *userdata)
{
    *server = (struct holder_server){.loop = loop, .events = events, .userdata = userdata};
    server->acceptor.fd = -1;
    gt_list_init(&server->clients);
}

void holder_server_listen(struct holder_server *server, int fd, const struct local_socket *file)
{
    server->file = *file;
    server->is_listening = true;
    gt_acceptor_init(&server->acceptor, server->loop, fd, NULL, server_on_accept, server);
    gt_acceptor_start(&server->acceptor);
}

void holder_server_close(struct holder_server *server)
{
    server->is_listening = false;
    local_socket_remove(&server->file);
    gt_acceptor_deinit(&server->acceptor);
    gt_list_for_each_safe (at, next, &server->clients) {
        struct holder_client *client = gt_list_entry(at, struct holder_client, link);

        if (client->state < HOLDER_CLIENT_OPENING)
            client_free(client);
    }
}

void holder_server_deinit(struct holder_server *server)
{
    holder_server_close(server);
    gt_list_for_each_safe (at, next, &server->clients)
        client_free(gt_list_entry(at, struct holder_client, link));
}

void holder_server_notice(struct holder_server *server, enum holder_notice_kind kind,
                          const char *text)
{
    struct holder_message message = {.type = HOLDER_NOTICE, .notice = {.kind = (uint8_t)kind}};

    snprintf(message.notice.text, sizeof(message.notice.text), "%s", text);
    gt_list_for_each_safe (at, next, &server->clients) {
        struct holder_client *client = gt_list_entry(at, struct holder_client, link);

        if (client->state == HOLDER_CLIENT_OPENING)
            client_send(client, &message);
    }
}

void holder_server_connected(struct holder_client *client)
{
    client_send_type(client, HOLDER_CONNECTED);
}

void holder_server_end(struct holder_client *client, int status, const char *text)
{
    struct holder_message message = {.type = HOLDER_END, .end = {.status = (uint16_t)status}};

    snprintf(message.end.text, sizeof(message.end.text), "%s", text);
    client_send(client, &message);
    client_free(client);
}

void holder_server_fail(struct holder_client *client, const struct failure *failure)
{
    struct holder_message message = {.type = HOLDER_FAILURE,
                                     .failure = {.id = (uint16_t)failure->id}};

    snprintf(message.failure.message, sizeof(message.failure.message), "%s", failure->message);
    snprintf(message.failure.hint, sizeof(message.failure.hint), "%s", failure->hint);
    client_send(client, &message);
    client_free(client);
}

struct holder_client *holder_server_find(struct holder_server *server, uint32_t stream)
{
    gt_list_for_each_safe (at, next, &server->clients) {
        struct holder_client *client = gt_list_entry(at, struct holder_client, link);

        if (stream > 0 && client->stream == stream)
            return client;
    }
    return NULL;
}

unsigned holder_server_n_taken(const struct holder_server *server)
{
    unsigned n = holder_server_n_open(server);

    gt_list_for_each_safe (at, next, &server->clients)
        n += gt_list_entry(at, struct holder_client, link)->state == HOLDER_CLIENT_READY;
    return n;
}

unsigned holder_server_n_open(const struct holder_server *server)
{
    unsigned n = 0;

    gt_list_for_each_safe (at, next, &server->clients)
        n += gt_list_entry(at, struct holder_client, link)->state == HOLDER_CLIENT_OPENING;
    return n;
}
