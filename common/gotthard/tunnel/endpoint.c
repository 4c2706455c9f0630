/* SPDX-License-Identifier: ISC */
/*
 * The kinds of local endpoints differ in few calls. A socket of TCP stays abortive (SO_LINGER of
 * zero seconds) while it is open, so that the death of this process looks like a reset and never
 * like an end of file.
 */
#include "gotthard/tunnel/endpoint.h"

#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "gotthard/net/sock.h"

static void endpoint_on_event(struct ev_loop *loop, ev_io *watcher, int revents)
{
    struct gt_endpoint *endpoint = watcher->data;

    endpoint->on_event(endpoint->userdata, revents);
}

static void endpoint_on_vanished(void *userdata)
{
    struct gt_endpoint *endpoint = userdata;

    endpoint->is_vanished = true;
    endpoint->on_event(endpoint->userdata, GT_ENDPOINT_VANISHED);
}

void gt_endpoint_init(struct gt_endpoint *endpoint, struct ev_loop *loop, double vanished_s,
                      void (*on_event)(void *userdata, int revents), void *userdata)
{
    *endpoint = (struct gt_endpoint){.loop = loop, .in = -1, .out = -1};
    endpoint->on_event = on_event;
    endpoint->userdata = userdata;
    gt_silence_init(&endpoint->silence, loop, vanished_s, endpoint_on_vanished, endpoint);
    ev_init(&endpoint->reader, endpoint_on_event);
    ev_init(&endpoint->writer, endpoint_on_event);
    endpoint->reader.data = endpoint->writer.data = endpoint;
}

void gt_endpoint_fds_reset(struct gt_endpoint_fds fds)
{
    if (fds.out >= 0 && fds.out != fds.in)
        close(fds.out);
    if (fds.in >= 0)
        gt_sock_reset(fds.in);
}

static bool is_pair(const struct gt_endpoint *endpoint)
{
    return endpoint->in != endpoint->out;
}

/* Both may have the same flags, as the two ends of a terminal do: read them first. */
static void pair_open(struct gt_endpoint *endpoint)
{
    endpoint->in_flags = fcntl(endpoint->in, F_GETFL);
    endpoint->out_flags = fcntl(endpoint->out, F_GETFL);
    fcntl(endpoint->in, F_SETFL, endpoint->in_flags | O_NONBLOCK);
    fcntl(endpoint->out, F_SETFL, endpoint->out_flags | O_NONBLOCK);
}

void gt_endpoint_prepare(int socket, double vanished_s)
{
    gt_sock_set_abortive(socket, true);
    gt_silence_prepare(socket, vanished_s);
}

void gt_endpoint_open(struct gt_endpoint *endpoint, struct gt_endpoint_fds fds)
{
    endpoint->in = fds.in;
    endpoint->out = fds.out;
    if (is_pair(endpoint)) {
        pair_open(endpoint);
    } else {
        if (!fds.is_prepared)
            gt_endpoint_prepare(fds.in, endpoint->silence.limit_s);
        gt_silence_start(&endpoint->silence, fds.in);
    }
    ev_io_set(&endpoint->reader, fds.in, EV_READ);
    ev_io_set(&endpoint->writer, fds.out, EV_WRITE);
}

static void close_output(struct gt_endpoint *endpoint)
{
    ev_io_stop(endpoint->loop, &endpoint->writer);
    if (endpoint->out < 0)
        return;
    fcntl(endpoint->out, F_SETFL, endpoint->out_flags);
    gt_close(&endpoint->out);
}

void gt_endpoint_close(struct gt_endpoint *endpoint, bool is_orderly)
{
    ev_io_stop(endpoint->loop, &endpoint->reader);
    ev_io_stop(endpoint->loop, &endpoint->writer);
    gt_silence_stop(&endpoint->silence);
    if (endpoint->in < 0)
        return;
    if (is_pair(endpoint)) {
        close_output(endpoint);
        fcntl(endpoint->in, F_SETFL, endpoint->in_flags);
    } else if (is_orderly) {
        gt_sock_set_abortive(endpoint->in, false);
    }
    gt_close(&endpoint->in);
    endpoint->out = -1;
}

static void watch(struct ev_loop *loop, ev_io *watcher, bool is_wanted)
{
    if (is_wanted)
        ev_io_start(loop, watcher);
    else
        ev_io_stop(loop, watcher);
}

void gt_endpoint_watch_read(struct gt_endpoint *endpoint, bool is_wanted)
{
    if (endpoint->is_input_over && is_wanted)
        ev_feed_event(endpoint->loop, &endpoint->reader, EV_READ);
    else
        watch(endpoint->loop, &endpoint->reader, is_wanted);
}

void gt_endpoint_watch_write(struct gt_endpoint *endpoint, bool is_wanted)
{
    watch(endpoint->loop, &endpoint->writer, is_wanted);
}

/* The kernel ends a connection whose probes are not answered with one of these errors: with that of
 * the router or of the neighbor discovery, if there was any. */
static bool is_of_vanished_peer(int err)
{
    return err == ETIMEDOUT || err == EHOSTUNREACH || err == ENETUNREACH || err == EHOSTDOWN;
}

static int endpoint_error(struct gt_endpoint *endpoint)
{
    if (errno == EAGAIN || errno == EINTR)
        return GT_ENDPOINT_E_AGAIN;
    endpoint->is_vanished |= is_of_vanished_peer(errno);
    return GT_ENDPOINT_E_BROKEN;
}

/* Another process may have read them meanwhile, and others may follow them. */
static ssize_t read_left(struct gt_endpoint *endpoint, const struct iovec *room, int n_room)
{
    ssize_t n = endpoint->n_input_left > 0 ? readv(endpoint->in, room, n_room) : 0;

    if (n <= 0)
        return 0;
    endpoint->n_input_left -= GT_MIN(endpoint->n_input_left, (size_t)n);
    return n;
}

int gt_endpoint_read(struct gt_endpoint *endpoint, const struct iovec *room, int n_room,
                     size_t *ret_n)
{
    ssize_t n = endpoint->is_input_over ? read_left(endpoint, room, n_room)
                                        : readv(endpoint->in, room, n_room);

    if (n < 0)
        return endpoint_error(endpoint);
    if (n == 0)
        return GT_ENDPOINT_E_EOF;
    *ret_n = (size_t)n;
    return 0;
}

int gt_endpoint_write(struct gt_endpoint *endpoint, const struct iovec *view, int n_view,
                      size_t *ret_n)
{
    struct msghdr message = {.msg_iov = (struct iovec *)view, .msg_iovlen = (size_t)n_view};
    ssize_t n = is_pair(endpoint) ? writev(endpoint->out, view, n_view)
                                  : sendmsg(endpoint->out, &message, MSG_NOSIGNAL);

    if (n < 0 && errno == EPIPE && is_pair(endpoint))
        errno = ECONNRESET;
    if (n < 0)
        return endpoint_error(endpoint);
    gt_silence_written(&endpoint->silence);
    *ret_n = (size_t)n;
    return 0;
}

static size_t bytes_in_queue(int fd)
{
    struct stat st;
    int n = 0;

    if (fstat(fd, &st) < 0 || !(S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode)) ||
        ioctl(fd, FIONREAD, &n) < 0)
        return 0;
    return (size_t)n;
}

void gt_endpoint_stop_reading(struct gt_endpoint *endpoint)
{
    if (!is_pair(endpoint)) {
        shutdown(endpoint->in, SHUT_RD);
    } else if (!endpoint->is_input_over) {
        endpoint->is_input_over = true;
        endpoint->n_input_left = bytes_in_queue(endpoint->in);
    }
}

static bool get_tcp_state(const struct gt_endpoint *endpoint, uint8_t *ret)
{
    struct tcp_info info;
    socklen_t n = sizeof(info);

    if (getsockopt(endpoint->in, IPPROTO_TCP, TCP_INFO, &info, &n) < 0)
        return false;
    *ret = info.tcpi_state;
    return true;
}

/* The application has closed a Unix socket, the other end of the output pipe, or its terminal. */
static int error_of_other_kinds(const struct gt_endpoint *endpoint)
{
    struct pollfd output = {.fd = endpoint->out, .events = 0};

    if (poll(&output, 1, 0) <= 0 || !(output.revents & (POLLERR | POLLHUP)))
        return 0;
    if (is_pair(endpoint))
        return ECONNRESET;
    int err = -gt_sock_error(endpoint->in);
    return err != 0 ? err : EPIPE;
}

/* Only after the end: SO_ERROR of a living connection reports an ICMP error that TCP survives. */
int gt_endpoint_take_error(struct gt_endpoint *endpoint)
{
    uint8_t state;
    int err = 0;

    if (!get_tcp_state(endpoint, &state))
        return error_of_other_kinds(endpoint);
    if (state == TCP_CLOSE)
        err = -gt_sock_error(endpoint->in);
    endpoint->is_vanished |= is_of_vanished_peer(err);
    return err;
}

/* After a reset the kernel still counts the bytes that were lost by it. */
size_t gt_endpoint_unsent(const struct gt_endpoint *endpoint)
{
    uint8_t state;
    int n = 0;

    if (!get_tcp_state(endpoint, &state) || state == TCP_CLOSE ||
        ioctl(endpoint->in, SIOCOUTQ, &n) < 0 || n <= 0)
        return 0;
    return (size_t)n;
}

/* A pipe has an end of file when it is closed, a terminal and a file have none. */
static int half_close_pair(struct gt_endpoint *endpoint)
{
    struct stat st;

    if (shutdown(endpoint->out, SHUT_WR) < 0 && fstat(endpoint->out, &st) == 0 &&
        S_ISFIFO(st.st_mode))
        close_output(endpoint);
    return 0;
}

int gt_endpoint_half_close(struct gt_endpoint *endpoint)
{
    if (is_pair(endpoint))
        return half_close_pair(endpoint);
    if (shutdown(endpoint->out, SHUT_WR) < 0)
        return GT_ENDPOINT_E_BROKEN;
    gt_silence_written(&endpoint->silence);
    return 0;
}
