/* SPDX-License-Identifier: ISC */
/*
 * The target of the benchmark, behind every candidate. It serves any number of connections, and the
 * first byte of each selects the service (wire-format.h). It must never be the bottleneck:
 * discarded data is not even copied (MSG_TRUNC), and bulk data has a thread of its own, so that an
 * echo does not wait for it here.
 *
 *     target PORT COUNTERS SOCKET
 *
 * It listens on 127.0.0.1:PORT, and accepts connected descriptors over the Unix socket SOCKET. The
 * load passes the device's side of a pair at the relay that way, so that load and target are two
 * processes in that case as well. It exits at the end of its standard input.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "wire-format.h"

#define BATCH 64

struct connection {
    int fd;
    int epoll_fd; /* that watches it */
    char mode;
    bool has_counter; /* of WIRE_DISCARD: its byte was received */
    uint8_t counter;
    size_t n_sent; /* of an answer */
    size_t n_owed; /* of an echo: read and not yet written */
    char owed[4096];
};

static struct wire_counters *counters;
static char buffer[WIRE_BUFFER];
static int echo_epoll, bulk_epoll; /* epolls: new connections and echoes, all others */

static void connection_watch(struct connection *connection, int how, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = connection};

    epoll_ctl(connection->epoll_fd, how, connection->fd, &event);
}

static void connection_new(int fd)
{
    struct connection *connection = calloc(1, sizeof(*connection));
    int on = 1;

    if (!connection)
        abort();
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    fcntl(fd, F_SETFL, O_NONBLOCK);
    connection->fd = fd;
    connection->epoll_fd = echo_epoll;
    connection_watch(connection, EPOLL_CTL_ADD, EPOLLIN);
}

static void connection_free(struct connection *connection)
{
    close(connection->fd);
    free(connection);
}

/* The functions below return false when the connection is over. */

static bool connection_echo(struct connection *c)
{
    ssize_t n;

    while (true) {
        if (c->n_owed) {
            n = send(c->fd, c->owed, c->n_owed, MSG_NOSIGNAL);
            if (n < 0 || (size_t)n < c->n_owed) {
                n = n < 0 ? 0 : n;
                memmove(c->owed, c->owed + n, c->n_owed -= (size_t)n);
                connection_watch(c, EPOLL_CTL_MOD, EPOLLOUT);
                return errno == EAGAIN;
            }
            c->n_owed = 0;
            connection_watch(c, EPOLL_CTL_MOD, EPOLLIN);
        }
        n = recv(c->fd, c->owed, sizeof(c->owed), 0);
        if (n <= 0)
            return n < 0 && errno == EAGAIN;
        c->n_owed = (size_t)n;
    }
}

static bool connection_discard(struct connection *connection)
{
    ssize_t n;

    if (!connection->has_counter) {
        n = recv(connection->fd, &connection->counter, 1, 0);
        connection->has_counter = n > 0;
        return n > 0 || (n < 0 && errno == EAGAIN);
    }
    n = recv(connection->fd, NULL, 1 << 20, MSG_TRUNC);
    if (n > 0)
        atomic_fetch_add_explicit(&counters->n_discarded[connection->counter], (uint64_t)n,
                                  memory_order_relaxed);
    return n > 0 || (n < 0 && errno == EAGAIN);
}

static bool connection_source(struct connection *connection)
{
    for (int i = 0; i < 4; i++) {
        ssize_t n = send(connection->fd, buffer, sizeof(buffer), MSG_NOSIGNAL);

        if (n < 0)
            return errno == EAGAIN;
        if (n < (ssize_t)sizeof(buffer))
            return true;
    }
    return true;
}

static bool connection_answer(struct connection *connection)
{
    ssize_t n = 0;

    while (connection->n_sent < WIRE_ANSWER_SIZE && n >= 0) {
        n = send(connection->fd, buffer, WIRE_ANSWER_SIZE - connection->n_sent, MSG_NOSIGNAL);
        connection->n_sent += n > 0 ? (size_t)n : 0;
    }
    return n < 0 && errno == EAGAIN;
}

static bool connection_begin(struct connection *connection)
{
    ssize_t n = recv(connection->fd, &connection->mode, 1, 0);

    if (n > 0 && connection->mode != WIRE_ECHO) {
        connection_watch(connection, EPOLL_CTL_DEL, 0);
        connection->epoll_fd = bulk_epoll;
        connection_watch(connection, EPOLL_CTL_ADD,
                         connection->mode == WIRE_DISCARD ? EPOLLIN : EPOLLOUT);
    }
    return n > 0 || (n < 0 && errno == EAGAIN);
}

static bool connection_serve(struct connection *connection)
{
    switch (connection->mode) {
    case WIRE_ECHO: return connection_echo(connection);
    case WIRE_DISCARD: return connection_discard(connection);
    case WIRE_SOURCE: return connection_source(connection);
    case WIRE_ANSWER: return connection_answer(connection);
    case 0: return connection_begin(connection);
    }
    return false;
}

/* Returns the descriptor in a message on the Unix socket, or -1. */
static int take_descriptor(int handover_fd)
{
    char byte, control[CMSG_SPACE(sizeof(int))];
    struct iovec iov = {&byte, 1};
    struct msghdr message = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof(control)};
    struct cmsghdr *header;
    int fd;

    if (recvmsg(handover_fd, &message, MSG_CMSG_CLOEXEC) <= 0 ||
        !(header = CMSG_FIRSTHDR(&message)))
        return -1;
    memcpy(&fd, CMSG_DATA(header), sizeof(fd));
    return fd;
}

static int listen_tcp(uint16_t port)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), on = 1;

    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    return bind(fd, (struct sockaddr *)&addr, sizeof(addr)) || listen(fd, 4096) ? -1 : fd;
}

static int listen_unix(const char *path)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
    unlink(path);
    return bind(fd, (struct sockaddr *)&addr, sizeof(addr)) ? -1 : fd;
}

static void handover_serve(int tcp, int handover_fd)
{
    int fd;

    while ((fd = accept4(tcp, NULL, NULL, SOCK_CLOEXEC)) >= 0)
        connection_new(fd);
    while ((fd = take_descriptor(handover_fd)) >= 0)
        connection_new(fd);
}

static void *serve_bulk(void *userdata)
{
    struct epoll_event events[BATCH];

    while (true) {
        int n = epoll_wait(bulk_epoll, events, BATCH, -1);

        for (int i = 0; i < n; i++)
            if (!connection_serve(events[i].data.ptr))
                connection_free(events[i].data.ptr);
    }
    return NULL;
}

/* Until the standard input ends. */
static void serve_echo(int tcp, int handover_fd)
{
    struct epoll_event events[BATCH];

    while (true) {
        int n = epoll_wait(echo_epoll, events, BATCH, -1);

        for (int i = 0; i < n; i++) {
            if (events[i].data.u64 == 1)
                return;
            if (!events[i].data.ptr)
                handover_serve(tcp, handover_fd);
            else if (!connection_serve(events[i].data.ptr))
                connection_free(events[i].data.ptr);
        }
    }
}

int main(int argc, char **argv)
{
    struct epoll_event wake = {.events = EPOLLIN};
    pthread_t thread;
    int tcp, handover_fd;

    if (argc != 4 || !(counters = wire_map(argv[2])))
        return 64;
    echo_epoll = epoll_create1(EPOLL_CLOEXEC);
    bulk_epoll = epoll_create1(EPOLL_CLOEXEC);
    tcp = listen_tcp((uint16_t)atoi(argv[1]));
    handover_fd = listen_unix(argv[3]);
    if (tcp < 0 || handover_fd < 0 || pthread_create(&thread, NULL, serve_bulk, NULL)) {
        perror("target");
        return 1;
    }
    epoll_ctl(echo_epoll, EPOLL_CTL_ADD, tcp, &wake);
    epoll_ctl(echo_epoll, EPOLL_CTL_ADD, handover_fd, &wake);
    wake.data.u64 = 1;
    epoll_ctl(echo_epoll, EPOLL_CTL_ADD, STDIN_FILENO, &wake);
    serve_echo(tcp, handover_fd);
    return 0;
}
