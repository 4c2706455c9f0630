/* SPDX-License-Identifier: ISC */
/*
 * Conduits over a stand-in for the relay that checks JOINs and joins the two ends, on loopback:
 * real sockets, real TLS, one loop. The applications at both ends send a pattern of their own
 * stream, so that a byte lost, doubled or of a neighbour is seen. Every call of the library that
 * moves bytes can be shortened and interrupted by a shim (--wrap in meson.build).
 */
// clang-format off
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>

#include "gotthard/conduit.h"
#include "gotthard/log.h"

#define MIB     ((size_t)1 << 20)
#define PERIOD  65521 /* of the pattern: no power of two near */
#define GUARD_S 60.0

/* --- the shim --------------------------------------------------------------------------------- */

static bool shim_is_on;
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
    return may < 0 ? may : __real_recv(fd, data, (size_t)may, flags);
}

ssize_t __wrap_send(int fd, const void *data, size_t n, int flags)
{
    ssize_t may = shim(n);
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
    unsigned n_up_o, n_up_d;
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

static const struct gt_conduit_events events = {on_ticket_due, on_service, on_up, on_end};

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

/* --- tests ------------------------------------------------------------------------------------ */

static void transfer(size_t up, size_t down, size_t o_ring, size_t d_ring)
{
    struct relay relay;
    struct ends ends;
    relay_init(&relay);
    ends_init(&ends, &relay, 1);
    ends.o_settings.ring_size = o_ring;
    ends.d_settings.ring_size = d_ring;
    ends_open(&ends, false);
    carry_both(&ends, 1);
    app_send(&ends.client, up, true);
    app_send(&ends.server, down, true);
    run_until(ends_are_over(&ends));
    assert_ended_well(&ends);
    assert_int_equal(ends.n_up_o, 1);
    assert_int_equal(ends.n_up_d, 1);
    assert_string_equal(ends.asked, "ssh");
    ends_deinit(&ends);
    relay_deinit(&relay);
}

static void test_32_mib_each_way(void **state)
{
    transfer(32 * MIB, 32 * MIB, MIB, MIB);
}

static void test_nothing_at_all(void **state)
{
    transfer(0, 0, MIB, MIB);
}

static void test_one_way_only(void **state)
{
    transfer(0, 3 * MIB + 1, MIB, MIB);
    transfer(3 * MIB + 1, 0, MIB, MIB);
}

static void test_small_and_unequal_rings(void **state)
{
    transfer(MIB, MIB, 4096, 4 * MIB);
    transfer(MIB, MIB, 4 * MIB, 4096);
    transfer(MIB, MIB, 4096, 4096);
}

static void test_bad_weather(void **state)
{
    shim_x ^= (uint64_t)time(NULL);
    print_message("shim seed %llu\n", (unsigned long long)shim_x);
    shim_is_on = true;
    transfer(2 * MIB, 2 * MIB, MIB, MIB);
    transfer(MIB, MIB, 4096, 65536);
    shim_is_on = false;
}

/* All of it written before a ticket came, and the target connected long after HELLO. */
static void test_bytes_wait_for_carrier_and_target(void **state)
{
    struct relay relay;
    struct ends ends;
    relay_init(&relay);
    ends_init(&ends, &relay, 1);
    ends.is_target_late = true;
    ends_open(&ends, false);
    app_send(&ends.client, 100000, true);
    run_until(!ev_is_active(&ends.client.writer));
    carry_both(&ends, 1);
    run_until(ends.asked[0] && ends.n_up_o);
    gt_conduit_serve(ends.d, ends.server_fd);
    ends.is_target_late = false;
    run_until(ends.server.is_eof);
    app_send(&ends.server, 200000, true); /* long after the other half was closed */
    run_until(ends_are_over(&ends));
    assert_ended_well(&ends);
    ends_deinit(&ends);
    relay_deinit(&relay);
}

static void test_half_close_either_way(void **state)
{
    for (int who = 0; who < 2; who++) {
        struct relay relay;
        struct ends ends;
        relay_init(&relay);
        ends_init(&ends, &relay, 1);
        ends_open(&ends, false);
        carry_both(&ends, 1);
        struct app *first = who ? &ends.server : &ends.client;
        struct app *last = who ? &ends.client : &ends.server;
        app_send(first, 1234, true);
        run_until(last->is_eof);
        app_send(last, 8 * MIB, true);
        run_until(ends_are_over(&ends));
        assert_ended_well(&ends);
        ends_deinit(&ends);
        relay_deinit(&relay);
    }
}

static void test_reset_in_the_middle(void **state)
{
    for (int who = 0; who < 2; who++) {
        struct relay relay;
        struct ends ends;
        relay_init(&relay);
        ends_init(&ends, &relay, 1);
        ends_open(&ends, false);
        carry_both(&ends, 1);
        app_send(&ends.client, 64 * MIB, true);
        app_send(&ends.server, 64 * MIB, true);
        run_until(ends.client.n_in > MIB && ends.server.n_in > MIB);
        struct app *cause = who ? &ends.server : &ends.client;
        struct app *other = who ? &ends.client : &ends.server;
        ev_io_stop(loop, &cause->reader);
        ev_io_stop(loop, &cause->writer);
        gt_sock_reset(gt_steal_fd(&cause->fd));
        assert_broken(&ends, GT_RST_LOCAL, GT_RST_LOCAL);
        run_until(other->is_reset);
        ends_deinit(&ends);
        relay_deinit(&relay);
    }
}

static void test_target_refused(void **state)
{
    struct relay relay;
    struct ends ends;
    relay_init(&relay);
    ends_init(&ends, &relay, 1);
    ends.refusal = GT_RST_REFUSED;
    ends_open(&ends, false);
    carry_both(&ends, 1);
    app_send(&ends.client, 1000, false);
    assert_broken(&ends, GT_RST_REFUSED, GT_RST_REFUSED);
    run_until(ends.client.is_reset);
    ends_deinit(&ends);
    relay_deinit(&relay);
}

static void test_broken_from_outside(void **state)
{
    struct relay relay;
    struct ends ends;
    relay_init(&relay);
    ends_init(&ends, &relay, 1);
    ends_open(&ends, false);
    carry_both(&ends, 1);
    app_send(&ends.client, 64 * MIB, true);
    run_until(ends.server.n_in > MIB);
    gt_conduit_break(ends.o, GT_RST_CLOSED);
    assert_non_null(ends.o); /* on_end only ever comes from a later turn */
    assert_broken(&ends, GT_RST_CLOSED, GT_RST_CLOSED);
    run_until(ends.client.is_reset && ends.server.is_reset);
    ends_deinit(&ends);
    relay_deinit(&relay);
}

static void test_relay_dies(void **state)
{
    struct relay relay;
    struct ends ends;
    relay_init(&relay);
    ends_init(&ends, &relay, 1);
    ends_open(&ends, false);
    carry_both(&ends, 1);
    app_send(&ends.client, 64 * MIB, true);
    run_until(ends.server.n_in > MIB);
    relay_cut(&relay);
    assert_broken(&ends, GT_RST_LOST, GT_RST_LOST);
    run_until(ends.client.is_reset && ends.server.is_reset);
    ends_deinit(&ends);
    relay_deinit(&relay);
}

/* The relay cuts at any number of bytes: never a good end before all was through. */
static void test_relay_dies_around_the_end(void **state)
{
    for (unsigned turns = 0; turns < 40; turns++) {
        struct relay relay;
        struct ends ends;
        relay_init(&relay);
        ends_init(&ends, &relay, 1);
        ends_open(&ends, false);
        carry_both(&ends, 1);
        app_send(&ends.client, 50000, true);
        app_send(&ends.server, 50000, true);
        run_until(ends.n_up_o && ends.n_up_d);
        for (unsigned i = 0; i < turns && !ends_are_over(&ends); i++)
            ev_run(loop, EVRUN_ONCE);
        relay_cut(&relay);
        run_until(ends_are_over(&ends));
        if (ends.o_code == GT_RST_NONE || ends.d_code == GT_RST_NONE) {
            run_until(ends.client.n_in == 50000 && ends.server.n_in == 50000);
        } else {
            assert_int_equal(ends.o_code, GT_RST_LOST);
            assert_int_equal(ends.d_code, GT_RST_LOST);
        }
        ends_deinit(&ends);
        relay_deinit(&relay);
    }
}

static void test_relay_that_is_none(void **state)
{
    for (int how = 0; how < 3; how++) {
        struct relay relay;
        struct ends ends;
        relay_init(&relay);
        relay.is_garbling = how == 0;
        relay.is_refusing = how == 1;
        ends_init(&ends, &relay, 1);
        ends_open(&ends, false);
        if (how == 2) { /* nobody listens there */
            ev_io_stop(loop, &relay.acceptor);
            gt_close(&relay.listener);
        }
        carry_both(&ends, 1);
        app_send(&ends.client, 1000, false);
        assert_broken(&ends, GT_RST_LOST, GT_RST_LOST);
        assert_int_equal(ends.n_up_o + ends.n_up_d, 0);
        run_until(ends.client.is_reset);
        ends_deinit(&ends);
        relay_deinit(&relay);
    }
}

static void test_other_keys(void **state)
{
    struct relay relay;
    struct ends ends;
    relay_init(&relay);
    ends_init(&ends, &relay, 1);
    ends.d_settings.session_key = other_key;
    ends_open(&ends, false);
    carry_both(&ends, 1);
    app_send(&ends.client, 1000, false);
    assert_broken(&ends, GT_RST_LOST, GT_RST_LOST);
    assert_int_equal(ends.n_up_o + ends.n_up_d, 0);
    assert_string_equal(ends.asked, "");
    ends_deinit(&ends);
    relay_deinit(&relay);
}

static size_t turns_without_progress(const struct app *app)
{
    size_t before = app->n_out, n = 0;
    for (; n < 2000 && app->n_out == before; n++)
        ev_run(loop, EVRUN_NOWAIT);
    return n;
}

static void test_slow_reader_is_bounded(void **state)
{
    struct relay relay;
    struct ends ends, quick;
    relay_init(&relay);
    ends_init(&ends, &relay, 1);
    ends_open(&ends, false);
    carry_both(&ends, 1);
    ev_io_stop(loop, &ends.server.reader);
    app_send(&ends.client, 64 * MIB, true);
    while (turns_without_progress(&ends.client) < 2000)
        ;
    assert_true(ends.client.n_out < 24 * MIB); /* two rings and the kernel's own buffers */
    uint64_t counts[2];
    gt_conduit_counts(ends.d, &counts[0], &counts[1]);
    gt_conduit_counts(ends.o, &counts[1], &counts[0]);

    ends_init(&quick, &relay, 2); /* a neighbour does not notice */
    ends_open(&quick, false);
    carry_both(&quick, 1);
    app_send(&quick.client, 4 * MIB, true);
    app_send(&quick.server, 4 * MIB, true);
    run_until(ends_are_over(&quick));
    assert_ended_well(&quick);
    assert_int_equal(ends.o_code, -1);

    ev_io_start(loop, &ends.server.reader);
    app_send(&ends.server, 5, true);
    run_until(ends_are_over(&ends));
    assert_ended_well(&ends);
    ends_deinit(&quick);
    ends_deinit(&ends);
    relay_deinit(&relay);
}

static void on_time(struct ev_loop *l, ev_timer *watcher, int revents)
{
    *(bool *)watcher->data = true;
}

static void run_for(ev_tstamp s)
{
    bool is_time = false;
    ev_timer timer;
    ev_timer_init(&timer, on_time, s, 0);
    timer.data = &is_time;
    ev_timer_start(loop, &timer);
    run_until(is_time);
}

/* A local side that hung up while its stream cannot move must not spin the loop. */
static void test_hung_up_is_quiet(void **state)
{
    struct relay relay;
    struct ends ends;
    relay_init(&relay);
    ends_init(&ends, &relay, 1);
    ends_open(&ends, false);
    carry_both(&ends, 1);
    ev_io_stop(loop, &ends.server.reader);
    app_send(&ends.client, 64 * MIB, false);
    while (turns_without_progress(&ends.client) < 2000)
        ;
    app_close(&ends.client); /* everything it wrote is still to be read */

    unsigned before = ev_iteration(loop);
    run_for(0.2);
    assert_true(ev_iteration(loop) - before < 30);
    ends_deinit(&ends);
    relay_deinit(&relay);
}

/* Idle is no reason to be lost, nor to hold memory; a black hole is. */
static void test_heartbeat(void **state)
{
    struct relay relay;
    struct ends ends;
    relay_init(&relay);
    ends_init(&ends, &relay, 1);
    ends.o_settings.quiet_s = ends.d_settings.quiet_s = 0.02;
    ends.o_settings.silent_s = ends.d_settings.silent_s = 0.1;
    ends_open(&ends, false);
    carry_both(&ends, 1);
    app_send(&ends.client, 1000, false);
    run_until(ends.server.n_in == 1000);
    run_for(0.5);
    assert_int_equal(ends.o_code, -1);
    assert_int_equal(ends.d_code, -1);
    for (size_t i = 0; i < relay.n_legs; i++)
        ev_io_stop(loop, &relay.legs[i]->reader); /* open sockets, and nothing behind them */
    assert_broken(&ends, GT_RST_LOST, GT_RST_LOST);
    run_until(ends.client.is_reset && ends.server.is_reset);
    ends_deinit(&ends);
    relay_deinit(&relay);
}

static void test_many_at_once(void **state)
{
    enum { N = 60 };
    struct relay relay;
    static struct ends ends[N];
    relay_init(&relay);
    for (uint32_t i = 0; i < N; i++) {
        ends_init(&ends[i], &relay, i + 1);
        ends_open(&ends[i], false);
        carry_both(&ends[i], 1);
        app_send(&ends[i].client, 10000 + 1000 * i, true);
        app_send(&ends[i].server, 200000 - 1000 * i, true);
    }
    for (size_t i = 0; i < N; i++) {
        run_until(ends_are_over(&ends[i]));
        assert_ended_well(&ends[i]);
    }
    for (size_t i = 0; i < N; i++)
        ends_deinit(&ends[i]);
    relay_deinit(&relay);
}

static void test_spare_is_bound(void **state)
{
    struct relay relay;
    struct ends ends;
    relay_init(&relay);
    ends_init(&ends, &relay, 1);
    ends_open(&ends, true);
    carry_both(&ends, 1);
    run_until(ends.n_up_o && ends.n_up_d);
    assert_string_equal(ends.asked, "");
    gt_conduit_bind(ends.o, ends.client_fd, "web");
    app_send(&ends.client, 70000, true);
    app_send(&ends.server, 70000, true);
    run_until(ends_are_over(&ends));
    assert_ended_well(&ends);
    assert_string_equal(ends.asked, "web");
    ends_deinit(&ends);
    relay_deinit(&relay);
}

/* What the next issue's redial will do: another carrier in the middle, and not a byte amiss. */
static void test_newer_attempts_carry_on(void **state)
{
    struct relay relay;
    struct ends ends;
    relay_init(&relay);
    ends_init(&ends, &relay, 1);
    ends_open(&ends, false);
    carry_both(&ends, 1);
    struct gt_ticket stale = ticket_of(&ends, 1), other = ticket_of(&ends, 9);
    other.stream = 7;
    assert_int_equal(gt_conduit_carry(ends.o, &relay.addr, &stale), GT_CONDUIT_E_STALE);
    assert_int_equal(gt_conduit_carry(ends.o, &relay.addr, &other), GT_CONDUIT_E_STALE);
    app_send(&ends.client, 24 * MIB, true);
    app_send(&ends.server, 24 * MIB, true);
    for (uint32_t attempt = 2; attempt < 8; attempt++) {
        run_until(ends.client.n_in > attempt * 2 * MIB && ends.server.n_in > attempt * 2 * MIB);
        assert_false(ends_are_over(&ends));
        carry_both(&ends, attempt);
        assert_int_equal(gt_conduit_attempt(ends.o), attempt);
    }
    run_until(ends_are_over(&ends));
    assert_ended_well(&ends);
    assert_int_equal(ends.n_up_o, 7);
    ends_deinit(&ends);
    relay_deinit(&relay);
}

static void test_freed_at_any_time(void **state)
{
    for (unsigned turns = 0; turns < 400; turns += 13) {
        struct relay relay;
        struct ends ends;
        relay_init(&relay);
        ends_init(&ends, &relay, 1);
        ends_open(&ends, false);
        carry_both(&ends, 1);
        app_send(&ends.client, MIB, true);
        for (unsigned i = 0; i < turns; i++)
            ev_run(loop, EVRUN_NOWAIT);
        ends_deinit(&ends);
        relay_deinit(&relay);
    }
}

int main(void)
{
    gt_log_open("test-conduit", getenv("TEST_DEBUG") ? GT_LOG_DEBUG : GT_LOG_INFO);
#define conduit_test(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        conduit_test(test_32_mib_each_way),
        conduit_test(test_nothing_at_all),
        conduit_test(test_one_way_only),
        conduit_test(test_small_and_unequal_rings),
        conduit_test(test_bad_weather),
        conduit_test(test_bytes_wait_for_carrier_and_target),
        conduit_test(test_half_close_either_way),
        conduit_test(test_reset_in_the_middle),
        conduit_test(test_target_refused),
        conduit_test(test_broken_from_outside),
        conduit_test(test_relay_dies),
        conduit_test(test_relay_dies_around_the_end),
        conduit_test(test_relay_that_is_none),
        conduit_test(test_other_keys),
        conduit_test(test_slow_reader_is_bounded),
        conduit_test(test_hung_up_is_quiet),
        conduit_test(test_heartbeat),
        conduit_test(test_many_at_once),
        conduit_test(test_spare_is_bound),
        conduit_test(test_newer_attempts_carry_on),
        conduit_test(test_freed_at_any_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
