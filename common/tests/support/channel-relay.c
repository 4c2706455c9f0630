/* SPDX-License-Identifier: ISC */
/*
 * Loopback sockets in one loop. The relay's own calls are never shortened.
 */
#include "support/channel-relay.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants these before it */
#include <cmocka.h>

#include <stdio.h>

#define GUARD_S 240.0 /* emulated, the slowest test takes a minute */

/* --- loop and keys ---------------------------------------------------------------------------- */

struct ev_loop *loop;

struct gt_tls_context *client_context, *server_context;

uint8_t session_key[GT_KEY_SIZE] = "a key that both ends have";

uint8_t other_key[GT_KEY_SIZE] = "a key of another session";

static ev_timer guard;

static void on_guard(struct ev_loop *l, ev_timer *watcher, int revents)
{
    fprintf(stderr, "the loop ran for %.0f s without an end\n", GUARD_S);
    abort();
}

int setup(void **state)
{
    loop = ev_loop_new(EVFLAG_AUTO);
    fake_clock_start(); /* both ends and the relay run in this loop */
    assert_int_equal(gt_tls_context_new(GT_TLS_CLIENT, GT_STREAM_ALPN, &client_context), 0);
    assert_int_equal(gt_tls_context_new(GT_TLS_SERVER, GT_STREAM_ALPN, &server_context), 0);
    ev_timer_init(&guard, on_guard, GUARD_S, 0);
    ev_timer_start(loop, &guard);
    return 0;
}

int teardown(void **state)
{
    short_io_is_on = false;
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

void tcp_pair(int ret[2])
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
            at->decoded.id[1] != leg->decoded.id[1] || at->decoded.stream != leg->decoded.stream ||
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
    if (leg->n_join == GT_JOIN_SIZE) { /* data before the reply would be a bug */
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

void relay_init(struct relay *relay)
{
    memset(relay, 0, sizeof(*relay));
    relay->listener = listen_on_loopback(&relay->addr);
    ev_io_init(&relay->acceptor, relay_on_connection, relay->listener, EV_READ);
    relay->acceptor.data = relay;
    ev_io_start(loop, &relay->acceptor);
}

void relay_cut(struct relay *relay)
{
    for (size_t i = 0; i < relay->n_legs; i++)
        leg_close(relay->legs[i]);
}

static void cut_some(struct relay *relay, bool is_shared)
{
    for (size_t i = 0; i < relay->n_legs; i++) {
        struct leg *leg = relay->legs[i];

        if (leg->n_join == GT_JOIN_SIZE && (leg->decoded.stream == 0) == is_shared)
            leg_close(leg);
    }
}

void relay_cut_shared(struct relay *relay)
{
    cut_some(relay, true);
}

void relay_cut_own(struct relay *relay)
{
    cut_some(relay, false);
}

void relay_deinit(struct relay *relay)
{
    relay_cut(relay);
    for (size_t i = 0; i < relay->n_legs; i++)
        free(relay->legs[i]);
    ev_io_stop(loop, &relay->acceptor);
    gt_close(&relay->listener);
}
