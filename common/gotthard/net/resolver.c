/* SPDX-License-Identifier: ISC */
/* Both ends of the socket; see the header. */
#include "gotthard/net/resolver.h"

#include <poll.h>
#include <semaphore.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "gotthard/base/text.h"
#include "gotthard/net/lookup.h"

#define LOOKUPS_MAX 64 /* threads, each with at most 40 s of a resolver that does not answer */

/* A message with room for one descriptor. */
struct message {
    char host[GT_HOST_MAX + 1];
    struct iovec bytes;
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))];
    struct msghdr msg;
};

static void message_init(struct message *message)
{
    *message = (struct message){.bytes = {message->host, GT_HOST_MAX}};
    message->msg.msg_iov = &message->bytes;
    message->msg.msg_iovlen = 1;
    message->msg.msg_control = message->control;
    message->msg.msg_controllen = sizeof(message->control);
}

int gt_resolver_ask(int fd, const char *host, int answer_fd)
{
    struct message message;

    message_init(&message);
    message.bytes.iov_len = strlen(host);
    memcpy(message.host, host, strlen(host));
    struct cmsghdr *header = CMSG_FIRSTHDR(&message.msg);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(answer_fd));
    memcpy(CMSG_DATA(header), &answer_fd, sizeof(answer_fd));
    return sendmsg(fd, &message.msg, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
}

static sem_t places; /* of lookups that may still be started */

static void place_free(void)
{
    sem_post(&places);
}

/* Returns the descriptor of the answer, or -1. */
static int message_fd(struct msghdr *msg)
{
    const struct cmsghdr *header = CMSG_FIRSTHDR(msg);
    int fd;

    if (!header || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
        return -1;
    memcpy(&fd, CMSG_DATA(header), sizeof(fd));
    return fd;
}

/* Takes the place. The other end gets no answer if its query is malformed, or cannot be served. */
static void serve(struct message *message, size_t n)
{
    int fd = message_fd(&message->msg);

    message->host[n] = 0;
    bool is_valid = n > 0 && strlen(message->host) == n && !(message->msg.msg_flags & MSG_TRUNC);
    if (fd >= 0 && is_valid && gt_lookup_start(message->host, fd, place_free) == 0)
        return;
    if (fd >= 0 && !is_valid)
        close(fd);
    place_free();
}

static bool is_closed(int fd)
{
    struct pollfd polled = {.fd = fd};

    return poll(&polled, 1, 0) > 0 && (polled.revents & POLLHUP);
}

/* Returns false if the other end was closed meanwhile: a lookup can take long. sem_timedwait(3)
 * knows the wall clock only. If that is set back, the end is noticed when a lookup ends. */
static bool place_take(int fd)
{
    struct timespec until;

    while (sem_trywait(&places) < 0) {
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec++;
        if (sem_timedwait(&places, &until) == 0)
            return true;
        if (is_closed(fd))
            return false;
    }
    return true;
}

void gt_resolver_serve(int fd)
{
    struct message message;
    ssize_t n;

    sem_init(&places, 0, LOOKUPS_MAX);
    while (place_take(fd)) {
        message_init(&message);
        while ((n = recvmsg(fd, &message.msg, MSG_CMSG_CLOEXEC)) < 0 && errno == EINTR)
            ;
        if (n <= 0) /* an empty message counts as the end: no query is empty */
            return;
        serve(&message, (size_t)n);
    }
}
