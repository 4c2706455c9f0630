/* SPDX-License-Identifier: ISC */
/*
 * The world around the two conduits of a stream: a stand-in for the relay that checks JOINs and
 * joins the two ends, on loopback, and applications that send a pattern of their own stream, so
 * that a byte lost, doubled or of a neighbour is seen. Real sockets, real TLS, one loop. Every call
 * of the library that moves bytes can be shortened and interrupted by the shim (--wrap in
 * meson.build). To be included after cmocka.h.
 */
#pragma once

#include <stdio.h>
#include <sys/socket.h>
#include <time.h>

#include "gotthard/clock.h"
#include "gotthard/conduit.h"
#include "gotthard/log.h"

#define MIB     ((size_t)1 << 20)
#define PERIOD  65521 /* of the pattern: no power of two near */
#define GUARD_S 60.0

/* --- the shim --------------------------------------------------------------------------------- */

static bool shim_is_on;
static int shim_full = -1;      /* this socket takes nothing until something comes from it */
static bool shim_is_to_be_full; /* and it will be the next that sends much */
static uint64_t shim_x = 88172645463325252u;

static uint32_t shim_random(uint32_t n)
{
    shim_x ^= shim_x << 13;
    shim_x ^= shim_x >> 7;
    shim_x ^= shim_x << 17;
    return (uint32_t)((shim_x >> 20) % n);
}

/* Returns -1 (errno set) now and then, otherwise how much of @n may pass. */
static ssize_t shim(size_t n)
{
    size_t some = 1 + shim_random(5000);
    uint32_t what = shim_is_on ? shim_random(12) : 11;
    errno = what == 0 ? EINTR : EAGAIN;
    if (what < 2)
        return -1;
    return (ssize_t)(what == 2 ? GT_MIN(n, (size_t)1) : what < 6 ? GT_MIN(n, some) : n);
}

ssize_t __real_recv(int fd, void *data, size_t n, int flags);
ssize_t __real_send(int fd, const void *data, size_t n, int flags);
ssize_t __real_readv(int fd, const struct iovec *iov, int n_iov);
ssize_t __real_sendmsg(int fd, const struct msghdr *message, int flags);
ssize_t __wrap_recv(int fd, void *data, size_t n, int flags);
ssize_t __wrap_send(int fd, const void *data, size_t n, int flags);
ssize_t __wrap_readv(int fd, const struct iovec *iov, int n_iov);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags);

ssize_t __wrap_recv(int fd, void *data, size_t n, int flags)
{
    ssize_t may = shim(n);
    if (fd == shim_full)
        shim_full = -1;
    return may < 0 ? may : __real_recv(fd, data, (size_t)may, flags);
}

ssize_t __wrap_send(int fd, const void *data, size_t n, int flags)
{
    ssize_t may = shim(n);
    if (shim_is_to_be_full && n > 40000) {
        shim_is_to_be_full = false;
        shim_full = fd;
    }
    if (fd == shim_full) {
        errno = EAGAIN;
        return -1;
    }
    return may < 0 ? may : __real_send(fd, data, (size_t)may, flags);
}

ssize_t __wrap_readv(int fd, const struct iovec *iov, int n_iov)
{
    ssize_t may = shim(iov[0].iov_len);
    if (may < 0)
        return may;
    struct iovec first = {iov[0].iov_base, (size_t)may};
    return (size_t)may < iov[0].iov_len ? __real_readv(fd, &first, 1)
                                        : __real_readv(fd, iov, n_iov);
}

ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags)
{
    ssize_t may = shim(message->msg_iov[0].iov_len);
    if (may < 0)
        return may;
    struct iovec first = {message->msg_iov[0].iov_base, (size_t)may};
    struct msghdr shorter = {.msg_iov = &first, .msg_iovlen = 1};
    return __real_sendmsg(fd, (size_t)may < message->msg_iov[0].iov_len ? &shorter : message,
                          flags);
}

/* --- the world -------------------------------------------------------------------------------- */

static struct ev_loop *loop;
static struct gt_tls_context *client_context, *server_context;
static uint8_t session_key[GT_KEY_SIZE] = "a key that both ends have";
static uint8_t other_key[GT_KEY_SIZE] = "a key of another session";
static ev_timer guard;

static void on_guard(struct ev_loop *l, ev_timer *watcher, int revents)
{
    fprintf(stderr, "the loop ran for %.0f s without an end\n", GUARD_S);
    abort();
}

#define run_until(condition) \
    while (!(condition))     \
    ev_run(loop, EVRUN_ONCE)

static int setup(void **state)
{
    loop = ev_loop_new(EVFLAG_AUTO);
    assert_int_equal(gt_tls_context_new(GT_TLS_CLIENT, GT_STREAM_ALPN, &client_context), 0);
    assert_int_equal(gt_tls_context_new(GT_TLS_SERVER, GT_STREAM_ALPN, &server_context), 0);
    ev_timer_init(&guard, on_guard, GUARD_S, 0);
    ev_timer_start(loop, &guard);
    return 0;
}

static int teardown(void **state)
{
    shim_is_on = false;
    gt_tls_context_free(client_context);
    gt_tls_context_free(server_context);
    ev_loop_destroy(loop);
    return 0;
}

static int listen_on_loopback(struct gt_addr *ret)
{
    assert_int_equal(gt_addr_parse("127.0.0.1", 0, ret), 0);
    int fd = gt_sock_listen(ret, 200);
    assert_true(fd >= 0);
    assert_int_equal(gt_sock_local(fd, ret), 0);
    return fd;
}

/* A TCP connection over loopback: both ends non-blocking. */
static void tcp_pair(int ret[2])
{
    struct gt_addr addr, peer;
    int listener = listen_on_loopback(&addr);
    ret[0] = gt_sock_connect(&addr);
    assert_true(ret[0] >= 0);
    while ((ret[1] = gt_sock_accept(listener, &peer)) == -EAGAIN)
        ;
    assert_true(ret[1] >= 0);
    close(listener);
}

/* --- the relay -------------------------------------------------------------------------------- */

struct leg {
    struct relay *relay;
    struct leg *other;
    int fd;
    ev_io reader, writer;
    uint8_t join[GT_JOIN_SIZE];
    size_t n_join;
    struct gt_join decoded;
    uint8_t buf[32768]; /* read from here, not yet written to the other */
    size_t at, end;
    bool is_eof;
};

struct relay {
    int listener;
    struct gt_addr addr;
    ev_io acceptor;
    struct leg *legs[256];
    size_t n_legs;
    bool is_garbling, is_refusing;
};

static void leg_pump(struct leg *from)
{
    struct leg *to = from->other;
    for (;;) {
        if (from->at == from->end && !from->is_eof) {
            ssize_t n = __real_recv(from->fd, from->buf, sizeof(from->buf), 0);
            if (n < 0 && errno == EAGAIN)
                break;
            from->is_eof = n <= 0;
            from->at = 0;
            from->end = n > 0 ? (size_t)n : 0;
            if (from->is_eof) {
                shutdown(to->fd, SHUT_WR);
                break;
            }
        }
        if (from->is_eof)
            break;
        ssize_t n = __real_send(to->fd, from->buf + from->at, from->end - from->at, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN)
            break;
        from->at = n < 0 ? from->end : from->at + (size_t)n;
    }
    bool is_held = from->at < from->end;
    if (is_held || from->is_eof)
        ev_io_stop(loop, &from->reader);
    else
        ev_io_start(loop, &from->reader);
    if (is_held)
        ev_io_start(loop, &to->writer);
    else
        ev_io_stop(loop, &to->writer);
}

static void leg_close(struct leg *leg)
{
    ev_io_stop(loop, &leg->reader);
    ev_io_stop(loop, &leg->writer);
    gt_close(&leg->fd);
}

static void leg_on_writable(struct ev_loop *l, ev_io *watcher, int revents)
{
    struct leg *leg = watcher->data;
    leg_pump(leg->other);
}

static void leg_find_other(struct leg *leg)
{
    struct relay *relay = leg->relay;
    for (size_t i = 0; i < relay->n_legs; i++) {
        struct leg *at = relay->legs[i];
        if (at == leg || at->other || at->fd < 0 || at->n_join < GT_JOIN_SIZE ||
            at->decoded.stream != leg->decoded.stream ||
            at->decoded.attempt != leg->decoded.attempt)
            continue;
        assert_int_not_equal(at->decoded.role, leg->decoded.role);
        leg->other = at;
        at->other = leg;
        const void *reply = relay->is_garbling ? (const void *)"GTJ1\2\0\0\0" : gt_join_reply;
        assert_int_equal(__real_send(leg->fd, reply, 8, MSG_NOSIGNAL), 8);
        assert_int_equal(__real_send(at->fd, reply, 8, MSG_NOSIGNAL), 8);
        return;
    }
}

static void leg_on_readable(struct ev_loop *l, ev_io *watcher, int revents)
{
    struct leg *leg = watcher->data;
    if (leg->other) {
        leg_pump(leg);
        return;
    }
    if (leg->n_join == GT_JOIN_SIZE) { /* an impatient end would be a mistake of ours */
        uint8_t byte;
        assert_true(__real_recv(leg->fd, &byte, 1, 0) <= 0);
        leg_close(leg);
        return;
    }
    ssize_t n = __real_recv(leg->fd, leg->join + leg->n_join, GT_JOIN_SIZE - leg->n_join, 0);
    if (n <= 0 || leg->relay->is_refusing) {
        leg_close(leg);
        return;
    }
    leg->n_join += (size_t)n;
    if (leg->n_join < GT_JOIN_SIZE)
        return;
    assert_int_equal(gt_join_decode(leg->join, &leg->decoded), 0);
    assert_int_equal(leg->decoded.id[0], 0x1d);
    assert_int_equal(leg->decoded.secret[31], 0x5e);
    leg_find_other(leg);
}

static void relay_on_connection(struct ev_loop *l, ev_io *watcher, int revents)
{
    struct relay *relay = watcher->data;
    struct gt_addr peer;
    int fd = gt_sock_accept(relay->listener, &peer);
    if (fd < 0)
        return;
    struct leg *leg = calloc(1, sizeof(*leg));
    assert_non_null(leg);
    assert_true(relay->n_legs < GT_ARRAY_SIZE(relay->legs));
    relay->legs[relay->n_legs++] = leg;
    leg->relay = relay;
    leg->fd = fd;
    ev_io_init(&leg->reader, leg_on_readable, fd, EV_READ);
    ev_io_init(&leg->writer, leg_on_writable, fd, EV_WRITE);
    leg->reader.data = leg->writer.data = leg;
    ev_io_start(loop, &leg->reader);
}

static void relay_init(struct relay *relay)
{
    memset(relay, 0, sizeof(*relay));
    relay->listener = listen_on_loopback(&relay->addr);
    ev_io_init(&relay->acceptor, relay_on_connection, relay->listener, EV_READ);
    relay->acceptor.data = relay;
    ev_io_start(loop, &relay->acceptor);
}

static void relay_cut(struct relay *relay)
{
    for (size_t i = 0; i < relay->n_legs; i++)
        leg_close(relay->legs[i]);
}

static void relay_deinit(struct relay *relay)
{
    relay_cut(relay);
    for (size_t i = 0; i < relay->n_legs; i++)
        free(relay->legs[i]);
    ev_io_stop(loop, &relay->acceptor);
    gt_close(&relay->listener);
}

/* --- an application --------------------------------------------------------------------------- */

struct app {
    int fd;
    ev_io reader, writer;
    uint32_t out_seed, in_seed;
    size_t n_out, to_send, n_in;
    bool is_finishing; /* shutdown after the last byte */
    bool is_eof, is_reset;
};

static uint8_t tile[2 * PERIOD + 131072];

static const uint8_t *pattern(uint32_t seed, size_t offset)
{
    if (!tile[0])
        for (size_t i = 0; i < sizeof(tile); i++)
            tile[i] = (uint8_t)((i % PERIOD * 2654435761u) >> 11 | 1);
    return tile + (offset + seed * 1009u) % PERIOD;
}

static void app_on_readable(struct ev_loop *l, ev_io *watcher, int revents)
{
    struct app *app = watcher->data;
    static uint8_t buf[65536];
    ssize_t n = __real_recv(app->fd, buf, sizeof(buf), 0);
    if (n > 0) {
        assert_memory_equal(buf, pattern(app->in_seed, app->n_in), (size_t)n);
        app->n_in += (size_t)n;
        return;
    }
    if (n < 0 && errno == EAGAIN)
        return;
    app->is_reset |= n < 0; /* a write may have been told before us; then a read sees an end */
    app->is_eof = !app->is_reset;
    ev_io_stop(loop, &app->reader);
}

static void app_on_writable(struct ev_loop *l, ev_io *watcher, int revents)
{
    struct app *app = watcher->data;
    size_t n = GT_MIN(app->to_send - app->n_out, (size_t)65536);
    ssize_t sent =
        n ? __real_send(app->fd, pattern(app->out_seed, app->n_out), n, MSG_NOSIGNAL) : 0;
    if (sent < 0 && errno == EAGAIN)
        return;
    app->is_reset |= sent < 0;
    app->n_out += sent > 0 ? (size_t)sent : 0;
    if (sent >= 0 && app->n_out < app->to_send)
        return;
    if (sent >= 0 && app->is_finishing)
        shutdown(app->fd, SHUT_WR);
    ev_io_stop(loop, &app->writer);
}

static void app_init(struct app *app, int fd, uint32_t stream, bool is_operator)
{
    memset(app, 0, sizeof(*app));
    app->fd = fd;
    app->out_seed = 2 * stream + is_operator;
    app->in_seed = 2 * stream + !is_operator;
    ev_io_init(&app->reader, app_on_readable, fd, EV_READ);
    ev_io_init(&app->writer, app_on_writable, fd, EV_WRITE);
    app->reader.data = app->writer.data = app;
    ev_io_start(loop, &app->reader);
}

static void app_send(struct app *app, size_t n, bool is_finishing)
{
    app->to_send += n;
    app->is_finishing = is_finishing;
    ev_io_start(loop, &app->writer);
}

static void app_close(struct app *app)
{
    ev_io_stop(loop, &app->reader);
    ev_io_stop(loop, &app->writer);
    gt_close(&app->fd);
}

/* --- both ends of one stream ------------------------------------------------------------------ */

struct ends {
    struct relay *relay;
    uint32_t number;
    struct gt_conduit *o, *d;
    struct gt_conduit_settings o_settings, d_settings;
    struct app client, server;
    int client_fd, server_fd; /* the conduits' own ends of the two connections */
    enum gt_rst refusal;
    bool is_target_late;
    unsigned n_up_o, n_up_d, n_lost;
    int o_code, d_code; /* -1: not over */
    uint64_t o_counts[2], d_counts[2];
    char asked[GT_SERVICE_MAX + 1];
};

static struct gt_ticket ticket_of(const struct ends *ends, uint32_t attempt)
{
    struct gt_ticket ticket = {.stream = ends->number, .attempt = attempt, .ttl_s = 30};
    ticket.id[0] = 0x1d;
    ticket.secret[31] = 0x5e;
    return ticket;
}

static void carry_both(struct ends *ends, uint32_t attempt)
{
    struct gt_ticket ticket = ticket_of(ends, attempt);
    assert_int_equal(gt_conduit_carry(ends->o, &ends->relay->addr, &ticket), 0);
    assert_int_equal(gt_conduit_carry(ends->d, &ends->relay->addr, &ticket), 0);
}

static void on_ticket_due(struct gt_conduit *conduit, void *userdata, uint32_t attempt)
{
    struct ends *ends = userdata;
    assert_ptr_equal(conduit, ends->o);
    assert_int_equal(attempt, 1);
}

static void on_service(struct gt_conduit *conduit, void *userdata, const char *service)
{
    struct ends *ends = userdata;
    assert_string_equal(ends->asked, ""); /* once */
    strcpy(ends->asked, service);
    if (ends->refusal)
        gt_conduit_refuse(conduit, ends->refusal);
    else if (!ends->is_target_late)
        gt_conduit_serve(conduit, ends->server_fd);
}

static void on_up(struct gt_conduit *conduit, void *userdata)
{
    struct ends *ends = userdata;
    if (conduit == ends->o)
        ends->n_up_o++;
    else
        ends->n_up_d++;
}

static void on_end(struct gt_conduit *conduit, void *userdata, enum gt_rst code)
{
    struct ends *ends = userdata;
    bool is_operator = conduit == ends->o;
    int *ret_code = is_operator ? &ends->o_code : &ends->d_code;
    uint64_t *counts = is_operator ? ends->o_counts : ends->d_counts;
    assert_int_equal(*ret_code, -1); /* once */
    *ret_code = (int)code;
    gt_conduit_counts(conduit, &counts[0], &counts[1]);
    *(is_operator ? &ends->o : &ends->d) = NULL;
}

static void on_lost(struct gt_conduit *conduit, void *userdata, uint32_t attempt)
{
    struct ends *ends = userdata;
    assert_ptr_equal(conduit, ends->d);
    ends->n_lost++;
}

static const struct gt_conduit_events events = {
    .on_ticket_due = on_ticket_due,
    .on_lost = on_lost,
    .on_service = on_service,
    .on_up = on_up,
    .on_end = on_end,
};

static void ends_init(struct ends *ends, struct relay *relay, uint32_t number)
{
    int pair[2];
    memset(ends, 0, sizeof(*ends));
    ends->relay = relay;
    ends->number = number;
    ends->o_code = ends->d_code = -1;
    ends->o_settings = (struct gt_conduit_settings){
        .loop = loop,
        .role = GT_ROLE_OPERATOR,
        .session_key = session_key,
        .tls = client_context,
        .ring_size = MIB,
    };
    ends->d_settings = ends->o_settings;
    ends->d_settings.role = GT_ROLE_DEVICE;
    ends->d_settings.tls = server_context;
    tcp_pair(pair);
    app_init(&ends->client, pair[0], number, true);
    ends->client_fd = pair[1];
    tcp_pair(pair);
    app_init(&ends->server, pair[0], number, false);
    ends->server_fd = pair[1];
}

static void ends_open(struct ends *ends, bool is_spare)
{
    assert_int_equal(gt_conduit_new(&ends->o_settings, ends->number,
                                    is_spare ? -1 : ends->client_fd, is_spare ? "" : "ssh", &events,
                                    ends, &ends->o),
                     0);
    assert_int_equal(
        gt_conduit_new(&ends->d_settings, ends->number, -1, NULL, &events, ends, &ends->d), 0);
    assert_int_equal(gt_conduit_number(ends->o), ends->number);
}

static bool ends_are_over(const struct ends *ends)
{
    return ends->o_code >= 0 && ends->d_code >= 0;
}

static void ends_deinit(struct ends *ends)
{
    gt_conduit_free(ends->o);
    gt_conduit_free(ends->d);
    app_close(&ends->client);
    app_close(&ends->server);
    if (!ends->asked[0] || ends->refusal || ends->is_target_late)
        gt_close(&ends->server_fd);
}

static void assert_ended_well(struct ends *ends)
{
    assert_int_equal(ends->o_code, GT_RST_NONE);
    assert_int_equal(ends->d_code, GT_RST_NONE);
    run_until(ends->client.is_eof && ends->server.is_eof);
    assert_int_equal(ends->client.n_in, ends->server.to_send);
    assert_int_equal(ends->server.n_in, ends->client.to_send);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(ends->o_counts[i], ends->d_counts[i]);
        assert_int_equal(ends->o_counts[i], i ? ends->server.to_send : ends->client.to_send);
    }
}

static void assert_broken(struct ends *ends, enum gt_rst o_code, enum gt_rst d_code)
{
    run_until(ends_are_over(ends));
    assert_int_equal(ends->o_code, o_code);
    assert_int_equal(ends->d_code, d_code);
    assert_false(ends->client.is_eof);
    assert_false(ends->server.is_eof);
}
