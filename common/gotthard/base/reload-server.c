/* SPDX-License-Identifier: ISC */
/*
 * The service's end of the socket; see the header. A client that does not read its answer loses it:
 * an answer is smaller than any socket's buffer, so nothing is queued here.
 */
#include "gotthard/base/reload-server.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "gotthard/base/format.h"
#include "gotthard/base/log.h"

#define READ_S   5.  /* for the request */
#define ANSWER_S 60. /* for the reload */
#define PAUSE_S  1.  /* without a descriptor */

/* --- clients ---------------------------------------------------------------------------------- */

static void client_close(struct gt_reload_client *client)
{
    struct gt_reload_server *server = client->server;

    ev_io_stop(server->loop, &client->readable);
    ev_timer_stop(server->loop, &client->deadline);
    gt_close(&client->fd);
    client->state = GT_RELOAD_FREE;
    ev_io_start(server->loop, &server->acceptable); /* one has room now */
}

static void client_send(const struct gt_reload_client *client, const char *text)
{
    if (send(client->fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        gt_debug("reload: the client has gone");
}

static void client_set_deadline(struct gt_reload_client *client, double seconds)
{
    ev_timer_stop(client->server->loop, &client->deadline);
    ev_timer_set(&client->deadline, seconds, 0.);
    ev_timer_start(client->server->loop, &client->deadline);
}

static void client_on_deadline(struct ev_loop *loop, ev_timer *timer, int revents)
{
    client_close(timer->data);
}

/* @client: has sent its request, which ends with a newline. */
static void client_handle(struct gt_reload_client *client)
{
    struct gt_reload_server *server = client->server;

    if (strcmp(client->request, GT_RELOAD_REQUEST "\n") == 0) {
        client->state = GT_RELOAD_WAITING;
        client_set_deadline(client, ANSWER_S);
        if (!server->is_busy)
            server->on_reload(server->userdata);
        return;
    }
    if (strcmp(client->request, GT_RELOAD_STATE "\n") == 0)
        client_send(client, server->answer);
    client_close(client);
}

static void client_on_readable(struct ev_loop *loop, ev_io *watcher, int revents)
{
    struct gt_reload_client *client = watcher->data;
    size_t room = sizeof(client->request) - 1 - client->n;
    ssize_t n = room ? recv(client->fd, client->request + client->n, room, MSG_DONTWAIT) : 0;

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0 || client->state != GT_RELOAD_READING) { /* it has closed, or sends too much */
        client_close(client);
        return;
    }
    client->n += (size_t)n;
    if (client->request[client->n - 1] == '\n')
        client_handle(client);
}

static bool is_permitted(int fd)
{
    struct ucred peer;
    socklen_t n = sizeof(peer);

    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) == 0 &&
           (peer.uid == 0 || peer.uid == geteuid());
}

/* @fd: takes. */
static void client_open(struct gt_reload_client *client, struct gt_reload_server *server, int fd)
{
    *client = (struct gt_reload_client){.state = GT_RELOAD_READING, .server = server, .fd = fd};
    ev_io_init(&client->readable, client_on_readable, fd, EV_READ);
    ev_init(&client->deadline, client_on_deadline);
    client->readable.data = client->deadline.data = client;
    ev_io_start(server->loop, &client->readable);
    client_set_deadline(client, READ_S);
}

/* --- the socket ------------------------------------------------------------------------------- */

static struct gt_reload_client *server_find_free(struct gt_reload_server *server)
{
    for (size_t i = 0; i < GT_RELOAD_CLIENTS; i++)
        if (server->clients[i].state == GT_RELOAD_FREE)
            return &server->clients[i];
    return NULL;
}

static void server_on_pause_over(struct ev_loop *loop, ev_timer *timer, int revents)
{
    struct gt_reload_server *server = timer->data;

    ev_io_start(loop, &server->acceptable);
}

/* The client stays in the backlog, so the socket stays readable. */
static void server_pause(struct gt_reload_server *server)
{
    gt_warn_errno(errno, "reload: accept failed");
    ev_io_stop(server->loop, &server->acceptable);
    ev_timer_stop(server->loop, &server->pause);
    ev_timer_set(&server->pause, PAUSE_S, 0.);
    ev_timer_start(server->loop, &server->pause);
}

static bool is_error_of_client(int err)
{
    return err == EAGAIN || err == EINTR || err == ECONNABORTED;
}

static void server_on_acceptable(struct ev_loop *loop, ev_io *watcher, int revents)
{
    struct gt_reload_server *server = watcher->data;
    struct gt_reload_client *client = server_find_free(server);

    if (!client) {
        ev_io_stop(loop, watcher);
        return;
    }
    int fd = accept4(server->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0 && !is_error_of_client(errno))
        server_pause(server);
    else if (fd >= 0 && is_permitted(fd))
        client_open(client, server, fd);
    else
        gt_close(&fd);
}

static void server_on_next(struct ev_loop *loop, ev_timer *timer, int revents)
{
    struct gt_reload_server *server = timer->data;

    if (!server->is_busy)
        server->on_reload(server->userdata);
}

/* Returns 0 or a negative errno. The folder keeps others out, whatever the mode of the socket. */
static int server_listen(struct gt_reload_server *server, const struct sockaddr_un *addr)
{
    gt_cleanup(gt_close) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0 || (unlink(addr->sun_path) < 0 && errno != ENOENT) ||
        bind(fd, (const struct sockaddr *)addr, sizeof(*addr)) < 0 ||
        listen(fd, GT_RELOAD_CLIENTS) < 0)
        return -errno;
    server->fd = gt_steal_fd(&fd);
    return 0;
}

void gt_reload_server_open(struct gt_reload_server *server, struct ev_loop *loop,
                           gt_reload_fn on_reload, void *userdata)
{
    struct sockaddr_un addr;

    *server = (struct gt_reload_server){
        .loop = loop, .fd = -1, .on_reload = on_reload, .userdata = userdata};
    gt_reload_server_set_state(server, 0, "the configuration is in use");
    ev_timer_init(&server->next, server_on_next, 0., 0.);
    ev_init(&server->pause, server_on_pause_over);
    server->next.data = server->pause.data = server;
    if (!gt_reload_socket_address(&addr))
        return;
    int r = server_listen(server, &addr);
    if (r) {
        gt_warn_errno(r, "%s: reloads are not answered", addr.sun_path);
        return;
    }
    ev_io_init(&server->acceptable, server_on_acceptable, server->fd, EV_READ);
    server->acceptable.data = server;
    ev_io_start(loop, &server->acceptable);
}

void gt_reload_server_close(struct gt_reload_server *server)
{
    if (server->fd < 0)
        return;
    for (size_t i = 0; i < GT_RELOAD_CLIENTS; i++)
        if (server->clients[i].state != GT_RELOAD_FREE)
            client_close(&server->clients[i]);
    ev_io_stop(server->loop, &server->acceptable);
    ev_timer_stop(server->loop, &server->next);
    ev_timer_stop(server->loop, &server->pause);
    gt_close(&server->fd);
}

/* --- reloads ---------------------------------------------------------------------------------- */

void gt_reload_server_begin(struct gt_reload_server *server)
{
    server->is_busy = true;
    for (size_t i = 0; i < GT_RELOAD_CLIENTS; i++)
        if (server->clients[i].state == GT_RELOAD_WAITING) {
            server->clients[i].state = GT_RELOAD_IN_WORK;
            client_send(&server->clients[i], GT_RELOAD_BEGUN "\n");
        }
}

void gt_reload_server_set_state(struct gt_reload_server *server, int status, const char *text)
{
    size_t n = gt_format(GT_FORMAT_TEXT, server->answer, sizeof(server->answer) - 1, "%d %s",
                         status, text);

    n = GT_MIN(n, sizeof(server->answer) - 2);
    memcpy(server->answer + n, "\n", 2);
}

/* A declined reload has begun for no client, so all that wait get the answer. */
void gt_reload_server_finish(struct gt_reload_server *server, int status, const char *text)
{
    enum gt_reload_client_state answered = server->is_busy ? GT_RELOAD_IN_WORK : GT_RELOAD_WAITING;
    bool is_more_wanted = false;

    gt_reload_server_set_state(server, status, text);
    server->is_busy = false;
    for (size_t i = 0; i < GT_RELOAD_CLIENTS; i++) {
        struct gt_reload_client *client = &server->clients[i];

        if (client->state == answered) {
            client_send(client, server->answer);
            client_close(client);
        }
        is_more_wanted = is_more_wanted || client->state == GT_RELOAD_WAITING;
    }
    if (is_more_wanted)
        ev_timer_start(server->loop, &server->next);
}
