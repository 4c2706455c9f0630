/* SPDX-License-Identifier: ISC */
#include "endpoints.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

static void fail(const char *what)
{
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int dial_tcp(uint16_t port, int flags)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, 0), on = 1;

    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (fd < 0 || (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) && errno != EINPROGRESS))
        fail("connect");
    return fd;
}

static void hand_over(int handover_fd, int fd)
{
    char byte = 0, control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec iov = {&byte, 1};
    struct msghdr message = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof(control)};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);

    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &fd, sizeof(fd));
    if (sendmsg(handover_fd, &message, 0) < 0)
        fail("pass a descriptor");
    close(fd);
}

static int dial_relay(struct path *path)
{
    int fds[2];

    if (!path->session || path->n_streams++ == path->per_session) {
        path->session = relay_client_session_new(path->relay_client);
        path->n_streams = 1;
    }
    relay_client_open(path->session, fds);
    hand_over(path->handover_fd, fds[1]);
    return fds[0];
}

void path_init(struct path *path)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};

    if (!path->target)
        return;
    snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path->target);
    path->handover_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (connect(path->handover_fd, (struct sockaddr *)&addr, sizeof(addr)))
        fail(path->target);
    path->relay_client = relay_client_new("127.0.0.1", path->port);
}

int path_dial(struct path *path, char mode)
{
    int fd = path->target ? dial_relay(path) : dial_tcp(path->port, 0);

    if (send(fd, &mode, 1, MSG_NOSIGNAL) != 1)
        fail("first byte");
    return fd;
}

int path_dial_start(struct path *path)
{
    return dial_tcp(path->port, SOCK_NONBLOCK);
}

void path_wait(struct path *path, int fd)
{
    struct pollfd pollfd = {fd, POLLIN, 0};

    if (path->relay_client)
        relay_client_wait(path->relay_client, fd);
    else
        poll(&pollfd, 1, -1);
}
