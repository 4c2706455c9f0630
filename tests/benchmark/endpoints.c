/* SPDX-License-Identifier: ISC */
#include "way.h"

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

static int dial_tcp(uint16_t port)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)))
        fail("connect");
    return fd;
}

static void hand_over(int door, int fd)
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
    if (sendmsg(door, &message, 0) < 0)
        fail("hand over");
    close(fd);
}

static int dial_relay(struct way *way)
{
    int fds[2];

    if (!way->session || way->n_streams++ == way->per_session) {
        way->session = relaying_session_new(way->relaying);
        way->n_streams = 1;
    }
    relaying_open(way->session, fds);
    hand_over(way->door, fds[1]);
    return fds[0];
}

void way_init(struct way *way)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};

    if (!way->target)
        return;
    snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", way->target);
    way->door = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (connect(way->door, (struct sockaddr *)&addr, sizeof(addr)))
        fail(way->target);
    way->relaying = relaying_new("127.0.0.1", way->port);
}

int way_dial(struct way *way, char mode)
{
    int fd = way->target ? dial_relay(way) : dial_tcp(way->port);

    if (send(fd, &mode, 1, MSG_NOSIGNAL) != 1)
        fail("first byte");
    return fd;
}

void way_wait(struct way *way, int fd)
{
    struct pollfd pollfd = {fd, POLLIN, 0};

    if (way->relaying)
        relaying_wait(way->relaying, fd);
    else
        poll(&pollfd, 1, -1);
}
