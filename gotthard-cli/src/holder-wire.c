/* SPDX-License-Identifier: ISC */
/*
 * A message with descriptors that it must not have, or without those that it must have, is not
 * valid; its descriptors are closed.
 */
#include "holder-wire.h"

#include <string.h>
#include <sys/socket.h>

union control { /* aligned */
    struct cmsghdr header;
    uint8_t room[CMSG_SPACE(HOLDER_MESSAGE_FDS * sizeof(int))];
};

static void attach(struct msghdr *header, union control *control, const struct gt_endpoint_fds *fds)
{
    const int numbers[HOLDER_MESSAGE_FDS] = {fds->in, fds->out};

    header->msg_control = control;
    header->msg_controllen = sizeof(*control);
    struct cmsghdr *part = CMSG_FIRSTHDR(header);
    part->cmsg_level = SOL_SOCKET;
    part->cmsg_type = SCM_RIGHTS;
    part->cmsg_len = CMSG_LEN(sizeof(numbers));
    memcpy(CMSG_DATA(part), numbers, sizeof(numbers));
}

static int condition_of(int err)
{
    return err == EAGAIN || err == EINTR || err == ENOBUFS ? HOLDER_WIRE_E_AGAIN
                                                           : HOLDER_WIRE_E_END;
}

int holder_wire_send(int fd, const struct holder_message *message,
                     const struct gt_endpoint_fds *fds)
{
    uint8_t bytes[HOLDER_MESSAGE_MAX];
    struct iovec view = {bytes, holder_message_encode(message, bytes)};
    struct msghdr header = {.msg_iov = &view, .msg_iovlen = 1};
    union control control = {.room = {0}};

    if (fds)
        attach(&header, &control, fds);
    ssize_t n = sendmsg(fd, &header, MSG_DONTWAIT | MSG_NOSIGNAL);
    return n < 0 ? condition_of(errno) : 0;
}

/* Returns false for descriptors of another number than @n_wanted, and closes them. */
static bool detach(struct msghdr *header, size_t n_wanted, struct gt_endpoint_fds *ret)
{
    int fds[HOLDER_MESSAGE_FDS] = {-1, -1};
    size_t n = 0;

    for (struct cmsghdr *part = CMSG_FIRSTHDR(header); part; part = CMSG_NXTHDR(header, part)) {
        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
            continue;
        n = GT_MIN((part->cmsg_len - CMSG_LEN(0)) / sizeof(int), GT_ARRAY_SIZE(fds));
        memcpy(fds, CMSG_DATA(part), n * sizeof(int));
    }
    if (n == n_wanted && !(header->msg_flags & MSG_CTRUNC)) {
        *ret = (struct gt_endpoint_fds){.in = fds[0], .out = fds[1]};
        return true;
    }
    for (size_t i = 0; i < n; i++)
        gt_close(&fds[i]);
    return false;
}

int holder_wire_receive(int fd, struct holder_message *ret, struct gt_endpoint_fds *ret_fds)
{
    uint8_t bytes[HOLDER_MESSAGE_MAX];
    struct iovec room = {bytes, sizeof(bytes)};
    union control control;
    struct msghdr header = {
        .msg_iov = &room,
        .msg_iovlen = 1,
        .msg_control = &control,
        .msg_controllen = sizeof(control),
    };
    struct holder_message message = {.type = HOLDER_READY};

    ssize_t n = recvmsg(fd, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0)
        return condition_of(errno);
    bool is_valid = n > 0 && !(header.msg_flags & MSG_TRUNC) &&
                    holder_message_decode(gt_span(bytes, (size_t)n), &message) == 0;
    bool is_open = is_valid && message.type == HOLDER_OPEN;
    if (!detach(&header, is_open ? HOLDER_MESSAGE_FDS : 0, ret_fds) || !is_valid)
        return HOLDER_WIRE_E_END;
    *ret = message;
    return 0;
}
