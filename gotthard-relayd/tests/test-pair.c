/* SPDX-License-Identifier: ISC */
/*
 * pair.c and pipe.c: every test runs spliced and copied, over TCP on loopback and (where a reset is
 * not the point) over a socketpair. The far ends are driven from the same loop.
 */
#include "pair.h"

#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

#include <cmocka.h>

#include "gotthard/join.h"
#include "gotthard/sock.h"
#include "now.h"

#define MIB ((size_t)1 << 20)

enum transport { TRANSPORT_TCP, TRANSPORT_UNIX };

struct way {
    enum pipe_kind kind;
    enum transport transport;
};

static struct {
    struct ev_loop *loop;
    struct pipe_pool pool;
    struct pair *pair;
    int ends[2]; /* the far ends: operator's and device's */
    unsigned n_complete, n_closed;
    enum gt_code code;
    struct quota quota;
} world;

static struct pair_limits limits;

static void on_complete(void *userdata, struct pair *pair)
{
    world.n_complete++;
}

static void on_closed(void *userdata, struct pair *pair, enum gt_code code)
{
    world.n_closed++;
    world.code = code;
}

static const struct pair_events events = {on_complete, on_closed};

static void tcp_pair(int ret[2])
{
    struct gt_addr addr, peer;
    assert_int_equal(gt_addr_parse("127.0.0.1", 0, &addr), 0);
    int listener = gt_sock_listen(&addr, 1);
    assert_true(listener >= 0);
    assert_int_equal(gt_sock_local(listener, &addr), 0);
    ret[0] = gt_sock_connect(&addr);
    assert_true(ret[0] >= 0);
    struct pollfd pollfd = {listener, POLLIN, 0};
    assert_int_equal(poll(&pollfd, 1, 5000), 1);
    ret[1] = gt_sock_accept(listener, &peer);
    assert_true(ret[1] >= 0);
    close(listener);
}

static void join(unsigned side, enum transport transport)
{
    uint8_t source[QUOTA_SOURCE] = {0};
    struct quota_charge charge;
    int fds[2];
    if (transport == TRANSPORT_TCP)
        tcp_pair(fds);
    else
        assert_int_equal(gt_sock_pair(fds), 0);
    assert_int_equal(quota_admit(&world.quota, source, 0, &charge), 0);
    world.ends[side] = fds[0];
    pair_join(world.pair, side, fds[1], &charge);
}

static void begin(struct way way)
{
    limits = (struct pair_limits){.second_ms = 10000, .half_closed_ms = 120000, .budget = MIB};
    memset(&world, 0, sizeof(world));
    world.ends[0] = world.ends[1] = -1;
    world.loop = ev_loop_new(EVFLAG_AUTO);
    quota_init(&world.quota,
               &(struct quota_limits){.n_strangers = 9, .n_early = 9, .n_per_source = 9}, 2, 1);
    pipe_pool_init(&world.pool, way.kind, 256 * 1024, 64);
    world.pair = pair_new(world.loop, &world.pool, &limits, &events, NULL);
    assert_non_null(world.pair);
}

static void end(void)
{
    struct quota_counts counts;
    world.pair = pair_free(world.pair);
    gt_close(&world.ends[0]);
    gt_close(&world.ends[1]);
    pipe_pool_drain(&world.pool);
    assert_int_equal(world.pool.n_spliced, 0);
    quota_count(&world.quota, &counts);
    assert_int_equal(counts.n_fds, 0);
    ev_loop_destroy(world.loop);
}

static void hear_the_greeting(unsigned side)
{
    uint8_t reply[GT_JOIN_REPLY_SIZE];
    assert_int_equal(recv(world.ends[side], reply, sizeof(reply), 0), sizeof(reply));
    assert_memory_equal(reply, gt_join_reply, sizeof(reply));
}

static void begin_joined(struct way way)
{
    begin(way);
    join(1, way.transport);
    assert_int_equal(world.n_complete, 0);
    assert_int_equal(world.pair->state, PAIR_ONE_JOINED);
    join(0, way.transport);
    assert_int_equal(world.n_complete, 1);
    assert_int_equal(world.pair->state, PAIR_SPLICING);
    hear_the_greeting(0);
    hear_the_greeting(1);
}

/* What @side says from byte @at on, a MiB of it: made once, of a period that is no power of two. */
static const uint8_t *pattern(unsigned side, size_t at)
{
    enum { PERIOD = 1048573 };
    static uint8_t patterns[2][PERIOD + MIB];
    if (!patterns[1][0])
        for (uint32_t i = 0; i < GT_ARRAY_SIZE(patterns[0]); i++) {
            patterns[0][i] = (uint8_t)(i % PERIOD * 2654435761u >> 13);
            patterns[1][i] = (uint8_t)(patterns[0][i] + 101);
        }
    return &patterns[side][at % PERIOD];
}

struct pump {
    size_t n_sent, n_received, n_total, n_chunk;
    enum { PUMPING, PUMPED } ends;
};

/* One step of a far end: send some, check some. */
static void pump_step(unsigned side, struct pump *pump)
{
    static uint8_t buffer[MIB];
    size_t n = GT_MIN(pump->n_chunk, pump->n_total - pump->n_sent);
    const uint8_t *said = pattern(side, pump->n_sent);
    ssize_t r = n ? send(world.ends[side], said, n, MSG_NOSIGNAL | MSG_DONTWAIT) : 0;
    if (r > 0)
        pump->n_sent += (size_t)r;
    r = recv(world.ends[side], buffer, pump->n_chunk, MSG_DONTWAIT);
    if (r <= 0)
        return;
    if (memcmp(buffer, pattern(!side, pump->n_received), (size_t)r) != 0)
        fail_msg("bytes %zu to %zu of %u are wrong", pump->n_received, pump->n_received + (size_t)r,
                 !side);
    pump->n_received += (size_t)r;
}

static void turn(void)
{
    ev_run(world.loop, EVRUN_NOWAIT);
}

static void carry(size_t n_bytes, size_t n_chunk)
{
    struct pump pumps[2] = {{.n_total = n_bytes, .n_chunk = n_chunk},
                            {.n_total = n_bytes, .n_chunk = n_chunk}};
    uint64_t limit = now_ms() + 300000;
    while (pumps[0].n_received < n_bytes || pumps[1].n_received < n_bytes) {
        pump_step(0, &pumps[0]);
        pump_step(1, &pumps[1]);
        turn();
        assert_true(now_ms() < limit);
    }
    assert_int_equal(world.pair->sides[0].n_bytes, n_bytes);
    assert_int_equal(world.pair->sides[1].n_bytes, n_bytes);
}

static void carries_both_ways(struct way way)
{
    static const size_t sizes[] = {0, 1, 63, 64, 65, 16383, 16384, 16385, 262143, 262144, 262145};
    for (size_t i = 0; i < GT_ARRAY_SIZE(sizes); i++) {
        begin_joined(way);
        carry(sizes[i], MIB);
        end();
    }
    begin_joined(way);
    carry(64 * MIB, MIB);
    turn();
    assert_null(world.pair->sides[0].pipe); /* nothing under way: nothing held */
    assert_null(world.pair->sides[1].pipe);
    end();
}

static void carries_crumbs(struct way way)
{
    begin_joined(way);
    carry(20000, 7);
    end();
}

/* Waits, turning the loop, until the far end has this to say. */
static ssize_t hear(unsigned side, void *buffer, size_t n)
{
    uint64_t limit = now_ms() + 60000;
    for (;;) {
        ssize_t r = recv(world.ends[side], buffer, n, MSG_DONTWAIT);
        if (r >= 0 || errno != EAGAIN)
            return r;
        turn();
        assert_true(now_ms() < limit);
    }
}

static void turn_until_closed(void)
{
    uint64_t limit = now_ms() + 60000;
    while (!world.n_closed) {
        ev_run(world.loop, EVRUN_ONCE);
        assert_true(now_ms() < limit);
    }
}

/* The FIN comes after the last byte, and the other direction goes on for as long as it likes. */
static void half_closes(struct way way)
{
    for (unsigned side = 0; side < 2; side++) {
        static uint8_t buffer[MIB];
        struct pump up = {.n_total = 8 * MIB, .n_chunk = MIB}, down = up;
        begin_joined(way);
        while (up.n_sent < up.n_total || down.n_received < up.n_total) {
            pump_step(side, &up);
            if (up.n_sent == up.n_total)
                shutdown(world.ends[side], SHUT_WR);
            down.n_total = 0;
            pump_step(!side, &down);
            turn();
        }
        assert_int_equal(hear(!side, buffer, 1), 0);
        assert_int_equal(world.pair->state, PAIR_HALF_CLOSED);
        down.n_total = (way.transport == TRANSPORT_TCP ? 100 : 8) * MIB;
        while (up.n_received < down.n_total) {
            pump_step(!side, &down);
            up.n_chunk = MIB;
            pump_step(side, &up);
            turn();
        }
        shutdown(world.ends[!side], SHUT_WR);
        assert_int_equal(hear(side, buffer, 1), 0);
        assert_int_equal(world.n_closed, 1);
        assert_int_equal(world.code, GT_CODE_NONE);
        assert_int_equal(world.pair->state, PAIR_CLOSED);
        end();
    }
}

/* A reset is passed on as a reset, with bytes under way or without. */
static void resets(struct way way)
{
    static uint8_t buffer[MIB];
    for (unsigned side = 0; side < 2; side++)
        for (unsigned is_full = 0; is_full < 2; is_full++) {
            begin_joined(way);
            if (is_full)
                assert_true(send(world.ends[side], buffer, 100000, MSG_DONTWAIT) > 0);
            gt_sock_reset(gt_steal_fd(&world.ends[side]));
            turn_until_closed();
            assert_int_equal(world.code, GT_CODE_LOST);
            ssize_t r;
            while ((r = hear(!side, buffer, sizeof(buffer))) > 0)
                continue;
            assert_int_equal(r, -1);
            assert_int_equal(errno, ECONNRESET);
            end();
        }
}

/* One direction is stuck: its source is not read on, the other direction does not notice, and
 * nobody spins. */
static void waits_for_a_slow_reader(struct way way)
{
    static uint8_t buffer[MIB];
    struct pump fast = {.n_total = 1000 * MIB, .n_chunk = MIB};
    struct pump slow = {.n_total = 4 * MIB, .n_chunk = MIB};
    uint64_t n_stuck = 0;
    begin_joined(way);
    for (unsigned n_idle = 0; n_idle < 100;) {
        size_t before = fast.n_sent;
        ssize_t r = send(world.ends[0], buffer, sizeof(buffer), MSG_DONTWAIT | MSG_NOSIGNAL);
        fast.n_sent += r > 0 ? (size_t)r : 0;
        turn();
        n_idle = fast.n_sent == before ? n_idle + 1 : 0;
        assert_true(fast.n_sent < 100 * MIB);
    }
    n_stuck = world.pair->sides[0].n_bytes;
    assert_non_null(world.pair->sides[0].pipe);
    while (slow.n_sent < slow.n_total) { /* the other way */
        ssize_t r = send(world.ends[1], buffer, MIB, MSG_DONTWAIT | MSG_NOSIGNAL);
        slow.n_sent += r > 0 ? (size_t)r : 0;
        turn();
        while ((r = recv(world.ends[0], buffer, MIB, MSG_DONTWAIT)) > 0)
            slow.n_received += (size_t)r;
        turn();
    }
    assert_int_equal(world.pair->sides[0].n_bytes, n_stuck);
    unsigned n_turns = ev_iteration(world.loop), n_pending = 0;
    for (unsigned i = 0; i < 20; i++) {
        turn();
        n_pending += ev_pending_count(world.loop);
    }
    assert_int_equal(ev_iteration(world.loop) - n_turns, 20);
    assert_int_equal(n_pending, 0);
    for (size_t n_heard = 0; n_heard < fast.n_sent;) { /* it reads at last */
        ssize_t r = hear(1, buffer, sizeof(buffer));
        assert_true(r > 0);
        n_heard += (size_t)r;
    }
    end();
}

/* The last bytes and the FIN wait in the pipe for a reader that comes late. */
static void drains_before_the_fin(struct way way)
{
    static uint8_t buffer[MIB];
    size_t n_sent = 0, n_heard = 0;
    begin_joined(way);
    for (unsigned n_idle = 0; n_idle < 50;) {
        ssize_t r = send(world.ends[0], buffer, sizeof(buffer), MSG_DONTWAIT | MSG_NOSIGNAL);
        n_sent += r > 0 ? (size_t)r : 0;
        n_idle = r > 0 ? 0 : n_idle + 1;
        turn();
    }
    shutdown(world.ends[0], SHUT_WR);
    for (unsigned i = 0; i < 10; i++)
        turn();
    ssize_t r;
    while ((r = hear(1, buffer, sizeof(buffer))) > 0)
        n_heard += (size_t)r;
    assert_int_equal(r, 0);
    assert_int_equal(n_heard, n_sent);
    end();
}

static void the_second_has_a_deadline(struct way way)
{
    uint8_t byte;
    begin(way);
    limits.second_ms = 30;
    join(0, way.transport);
    turn_until_closed();
    assert_int_equal(world.code, GT_CODE_EXPIRED);
    assert_int_equal(world.n_complete, 0);
    assert_true(hear(0, &byte, 1) <= 0); /* and not a byte */
    end();
}

static void half_closed_has_a_deadline_that_bytes_put_off(struct way way)
{
    uint8_t byte = 1;
    begin_joined(way);
    limits.half_closed_ms = 50;
    uint64_t began = now_ms();
    shutdown(world.ends[0], SHUT_WR);
    assert_int_equal(hear(1, &byte, 1), 0);
    while (now_ms() < began + 200) {
        assert_int_equal(send(world.ends[1], &byte, 1, MSG_NOSIGNAL), 1);
        assert_int_equal(hear(0, &byte, 1), 1);
    }
    assert_int_equal(world.n_closed, 0);
    turn_until_closed();
    assert_int_equal(world.code, GT_CODE_EXPIRED);
    end();
}

/* An end that is gone by the time the other ends: a reset stays one. */
static void reset_after_a_half_close(struct way way)
{
    uint8_t byte;
    begin_joined(way);
    shutdown(world.ends[1], SHUT_WR);
    assert_int_equal(hear(0, &byte, 1), 0);
    gt_sock_reset(gt_steal_fd(&world.ends[1]));
    shutdown(world.ends[0], SHUT_WR);
    turn_until_closed();
    assert_int_equal(world.code, GT_CODE_LOST);
    end();
}

static void closes_from_outside(struct way way)
{
    uint8_t byte;
    begin_joined(way);
    pair_close(world.pair);
    assert_int_equal(world.n_closed, 0);
    assert_true(hear(0, &byte, 1) <= 0);
    assert_true(hear(1, &byte, 1) <= 0);
    pair_close(world.pair);
    end();
}

static void tcp_only(void (*test)(struct way))
{
    test((struct way){PIPE_SPLICED, TRANSPORT_TCP});
    test((struct way){PIPE_COPIED, TRANSPORT_TCP});
}

static void every_way(void (*test)(struct way))
{
    tcp_only(test);
    test((struct way){PIPE_SPLICED, TRANSPORT_UNIX});
    test((struct way){PIPE_COPIED, TRANSPORT_UNIX});
}

static void test_carries_both_ways(void **state)
{
    every_way(carries_both_ways);
}

static void test_carries_crumbs(void **state)
{
    every_way(carries_crumbs);
}

static void test_half_closes(void **state)
{
    every_way(half_closes);
}

static void test_resets(void **state)
{
    tcp_only(resets);
}

static void test_waits_for_a_slow_reader(void **state)
{
    every_way(waits_for_a_slow_reader);
}

static void test_drains_before_the_fin(void **state)
{
    every_way(drains_before_the_fin);
}

static void test_reset_after_a_half_close(void **state)
{
    tcp_only(reset_after_a_half_close);
}

static void test_deadlines(void **state)
{
    every_way(the_second_has_a_deadline);
    every_way(half_closed_has_a_deadline_that_bytes_put_off);
}

static void test_closes_from_outside(void **state)
{
    every_way(closes_from_outside);
}

static void test_pool_falls_back_to_buffers(void **state)
{
    struct pipe_pool pool;
    struct pipe *pipes[4];
    pipe_pool_init(&pool, PIPE_SPLICED, 256 * 1024, 2);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(pipe_take(&pool, &pipes[i]), 0);
        assert_int_equal(pipes[i]->kind, i < 2 ? PIPE_SPLICED : PIPE_COPIED);
    }
    assert_int_equal(pool.n_spliced, 2);
    for (unsigned i = 0; i < 4; i++)
        pipes[i] = pipe_give(&pool, pipes[i]);
    assert_int_equal(pool.n_idle, 2); /* buffers are not kept where pipes are wanted */
    assert_int_equal(pipe_take(&pool, &pipes[0]), 0);
    pipes[0]->n_held = 1; /* of a pair that was reset: nobody else may meet these bytes */
    pipe_give(&pool, pipes[0]);
    assert_int_equal(pool.n_spliced, 1);
    assert_null(pipe_give(&pool, NULL));
    pipe_pool_drain(&pool);
}

static void test_pool_has_big_ones_for_a_few(void **state)
{
    struct pipe_pool pool;
    struct pipe *pipes[40];
    pipe_pool_init(&pool, PIPE_SPLICED, MIB, 512);
    for (unsigned i = 0; i < GT_ARRAY_SIZE(pipes); i++) {
        assert_int_equal(pipe_take(&pool, &pipes[i]), 0);
        assert_int_equal(pipes[i]->kind, PIPE_SPLICED);
        assert_true(!i || pipes[i]->capacity <= pipes[i - 1]->capacity);
    }
    size_t big = pipes[0]->capacity, small = pipes[39]->capacity;
    assert_int_equal(small, 64 * 1024);
    for (unsigned i = 0; i < GT_ARRAY_SIZE(pipes); i++)
        pipe_give(&pool, pipes[i]);
    assert_int_equal(pool.n_spliced, 16); /* the smallest went */
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(pipe_take(&pool, &pipes[i]), 0);
        assert_int_equal(pipes[i]->capacity, big);
    }
    for (unsigned i = 0; i < 4; i++)
        pipe_give(&pool, pipes[i]);
    pipe_pool_drain(&pool);
    assert_int_equal(pool.n_spliced, 0);
}

/* A user has only so many pages in pipes: the first who cannot have more copies. */
static void take_what_a_user_may_have(void)
{
    static struct pipe *pipes[8192];
    struct pipe_pool pool;
    size_t n = 0;
    pipe_pool_init(&pool, PIPE_SPLICED, MIB, GT_ARRAY_SIZE(pipes));
    for (bool is_copied = false; !is_copied && n < GT_ARRAY_SIZE(pipes); n++) {
        assert_int_equal(pipe_take(&pool, &pipes[n]), 0);
        is_copied = pipes[n]->kind == PIPE_COPIED;
        assert_true(pipes[n]->capacity >= 64 * 1024);
    }
    while (n)
        pipe_give(&pool, pipes[--n]);
    pipe_pool_drain(&pool);
    assert_int_equal(pool.n_spliced, 0);
}

static void test_pool_of_somebody_without_privileges(void **state)
{
    int status;
    pid_t child = fork();
    assert_true(child >= 0);
    if (!child) {
        if (!getuid() && setresuid(65534, 65534, 65534))
            _exit(1);
        take_what_a_user_may_have();
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

/* No end of ours sends urgent bytes, and splice(2) never comes past one: who does is not waited
 * for, and what he said after it is not taken for his end. */
static void test_urgent_bytes(void **state)
{
    for (unsigned is_ended = 0; is_ended < 2; is_ended++) {
        uint64_t limit = now_ms() + 5000;
        uint8_t buffer[16];
        ssize_t r;
        begin_joined((struct way){PIPE_SPLICED, TRANSPORT_TCP});
        assert_int_equal(send(world.ends[0], "before", 6, 0), 6);
        assert_int_equal(send(world.ends[0], "!", 1, MSG_OOB), 1);
        assert_int_equal(send(world.ends[0], "after", 5, 0), 5);
        if (is_ended)
            shutdown(world.ends[0], SHUT_WR);
        while (!world.n_closed) {
            turn();
            assert_true(now_ms() < limit);
        }
        assert_int_equal(world.code, GT_CODE_LOST);
        while ((r = hear(1, buffer, sizeof(buffer))) > 0)
            continue;
        assert_int_equal(r, -1);
        assert_int_equal(errno, ECONNRESET);
        end();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_carries_both_ways),
        cmocka_unit_test(test_carries_crumbs),
        cmocka_unit_test(test_half_closes),
        cmocka_unit_test(test_resets),
        cmocka_unit_test(test_waits_for_a_slow_reader),
        cmocka_unit_test(test_drains_before_the_fin),
        cmocka_unit_test(test_reset_after_a_half_close),
        cmocka_unit_test(test_urgent_bytes),
        cmocka_unit_test(test_deadlines),
        cmocka_unit_test(test_closes_from_outside),
        cmocka_unit_test(test_pool_falls_back_to_buffers),
        cmocka_unit_test(test_pool_has_big_ones_for_a_few),
        cmocka_unit_test(test_pool_of_somebody_without_privileges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
