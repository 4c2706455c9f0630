/* SPDX-License-Identifier: ISC */
/*
 * pair.c and pipe.c: every test runs with spliced and with copied bytes, over TCP on loopback and,
 * unless it is about reset, over a socket pair. The far ends are driven from the same loop.
 */
#include "data/pair.h"

#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

#include <cmocka.h>

#include "gotthard/base/clock.h"
#include "gotthard/net/sock.h"
#include "gotthard/proto/join.h"

#define MIB ((size_t)1 << 20)

enum transport { TRANSPORT_TCP, TRANSPORT_UNIX };

struct mode {
    enum pipe_kind kind;
    enum transport transport;
};

static struct {
    struct ev_loop *loop;
    struct pipe_pool pool;
    struct pair *pair;
    int ends[2]; /* the far ends: operator, device */
    unsigned n_complete, n_closed;
    enum gt_code code;
    struct quota quota;
} env;

static struct pair_limits limits;

static void on_complete(void *userdata, struct pair *pair)
{
    env.n_complete++;
}

static void on_end(void *userdata, struct pair *pair, enum gt_code code)
{
    env.n_closed++;
    env.code = code;
}

static const struct pair_events events = {on_complete, on_end};

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
    assert_int_equal(quota_admit(&env.quota, source, fds[1], CHARGE_KNOWN, &charge), 0);
    env.ends[side] = fds[0];
    pair_join(env.pair, side, fds[1], &charge);
}

static void set_up(struct mode mode)
{
    limits =
        (struct pair_limits){.join_peer_ms = 10000, .half_closed_ms = 120000, .turn_budget = MIB};
    memset(&env, 0, sizeof(env));
    env.ends[0] = env.ends[1] = -1;
    env.loop = ev_loop_new(EVFLAG_AUTO);
    quota_init(&env.quota,
               &(struct quota_limits){
                   .n_preauths = 9, .n_handshakes = 9, .n_of_identity = 9, .n_per_source = 9},
               2);
    pipe_pool_init(&env.pool, mode.kind, 256 * 1024, 64);
    env.pair = pair_new(env.loop, &env.pool, &limits, &events, NULL);
    assert_non_null(env.pair);
}

static void tear_down(void)
{
    struct quota_counts counts;

    env.pair = pair_free(env.pair);
    gt_close(&env.ends[0]);
    gt_close(&env.ends[1]);
    pipe_pool_drain(&env.pool);
    assert_int_equal(env.pool.n_spliced, 0);
    quota_count(&env.quota, &counts);
    assert_int_equal(counts.n_fds, 0);
    ev_loop_destroy(env.loop);
}

static void receive_reply(unsigned side, const uint8_t *expected)
{
    uint8_t reply[GT_JOIN_REPLY_SIZE];

    assert_int_equal(recv(env.ends[side], reply, sizeof(reply), 0), sizeof(reply));
    assert_memory_equal(reply, expected, sizeof(reply));
}

static void set_up_joined(struct mode mode)
{
    set_up(mode);
    join(1, mode.transport);
    assert_int_equal(env.n_complete, 0);
    assert_int_equal(env.pair->state, PAIR_ONE_JOINED);
    receive_reply(1, gt_join_receipt);
    join(0, mode.transport);
    assert_int_equal(env.n_complete, 1);
    assert_int_equal(env.pair->state, PAIR_SPLICING);
    receive_reply(0, gt_join_reply);
    receive_reply(1, gt_join_reply);
}

/* Returns a MiB that @side sends from offset @at on. The period of the pattern is not a power of
 * two.
 */
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
    const uint8_t *sent = pattern(side, pump->n_sent);
    ssize_t r = n ? send(env.ends[side], sent, n, MSG_NOSIGNAL | MSG_DONTWAIT) : 0;

    if (r > 0)
        pump->n_sent += (size_t)r;
    r = recv(env.ends[side], buffer, pump->n_chunk, MSG_DONTWAIT);
    if (r <= 0)
        return;
    if (memcmp(buffer, pattern(!side, pump->n_received), (size_t)r) != 0)
        fail_msg("bytes %zu to %zu of %u are wrong", pump->n_received, pump->n_received + (size_t)r,
                 !side);
    pump->n_received += (size_t)r;
}

static void turn(void)
{
    ev_run(env.loop, EVRUN_NOWAIT);
}

static void transfer(size_t n_bytes, size_t n_chunk)
{
    struct pump pumps[2] = {{.n_total = n_bytes, .n_chunk = n_chunk},
                            {.n_total = n_bytes, .n_chunk = n_chunk}};
    uint64_t limit = gt_clock_ms() + 300000;

    while (pumps[0].n_received < n_bytes || pumps[1].n_received < n_bytes) {
        pump_step(0, &pumps[0]);
        pump_step(1, &pumps[1]);
        turn();
        assert_true(gt_clock_ms() < limit);
    }
    assert_int_equal(env.pair->sides[0].n_bytes, n_bytes);
    assert_int_equal(env.pair->sides[1].n_bytes, n_bytes);
}

static void transfers_both_ways(struct mode mode)
{
    static const size_t sizes[] = {0, 1, 63, 64, 65, 16383, 16384, 16385, 262143, 262144, 262145};

    for (size_t i = 0; i < GT_ARRAY_SIZE(sizes); i++) {
        set_up_joined(mode);
        transfer(sizes[i], MIB);
        tear_down();
    }
    set_up_joined(mode);
    transfer(64 * MIB, MIB);
    turn();
    assert_null(env.pair->sides[0].pipe); /* without bytes in transit no pipe is held */
    assert_null(env.pair->sides[1].pipe);
    tear_down();
}

static void transfers_small_pieces(struct mode mode)
{
    set_up_joined(mode);
    transfer(20000, 7);
    tear_down();
}

/* Runs the loop until the far end of @side has received something. */
static ssize_t receive(unsigned side, void *buffer, size_t n)
{
    uint64_t limit = gt_clock_ms() + 60000;

    for (;;) {
        ssize_t r = recv(env.ends[side], buffer, n, MSG_DONTWAIT);

        if (r >= 0 || errno != EAGAIN)
            return r;
        turn();
        assert_true(gt_clock_ms() < limit);
    }
}

static void turn_until_closed(void)
{
    uint64_t limit = gt_clock_ms() + 60000;

    while (!env.n_closed) {
        ev_run(env.loop, EVRUN_ONCE);
        assert_true(gt_clock_ms() < limit);
    }
}

/* The FIN arrives after the last byte, and the other direction continues. */
static void half_close(struct mode mode)
{
    for (unsigned side = 0; side < 2; side++) {
        static uint8_t buffer[MIB];
        struct pump up = {.n_total = 8 * MIB, .n_chunk = MIB}, down = up;

        set_up_joined(mode);
        while (up.n_sent < up.n_total || down.n_received < up.n_total) {
            pump_step(side, &up);
            if (up.n_sent == up.n_total)
                shutdown(env.ends[side], SHUT_WR);
            down.n_total = 0;
            pump_step(!side, &down);
            turn();
        }
        assert_int_equal(receive(!side, buffer, 1), 0);
        assert_int_equal(env.pair->state, PAIR_HALF_CLOSED);
        down.n_total = (mode.transport == TRANSPORT_TCP ? 100 : 8) * MIB;
        while (up.n_received < down.n_total) {
            pump_step(!side, &down);
            up.n_chunk = MIB;
            pump_step(side, &up);
            turn();
        }
        shutdown(env.ends[!side], SHUT_WR);
        assert_int_equal(receive(side, buffer, 1), 0);
        assert_int_equal(env.n_closed, 1);
        assert_int_equal(env.code, GT_CODE_NONE);
        assert_int_equal(env.pair->state, PAIR_CLOSED);
        tear_down();
    }
}

/* A reset is forwarded as a reset, with and without bytes in transit. */
static void reset(struct mode mode)
{
    static uint8_t buffer[MIB];

    for (unsigned side = 0; side < 2; side++)
        for (unsigned is_full = 0; is_full < 2; is_full++) {
            set_up_joined(mode);
            if (is_full)
                assert_true(send(env.ends[side], buffer, 100000, MSG_DONTWAIT) > 0);
            gt_sock_reset(gt_steal_fd(&env.ends[side]));
            turn_until_closed();
            assert_int_equal(env.code, GT_CODE_LOST);
            ssize_t r;
            while ((r = receive(!side, buffer, sizeof(buffer))) > 0)
                continue;
            assert_int_equal(r, -1);
            assert_int_equal(errno, ECONNRESET);
            tear_down();
        }
}

/* One direction is blocked: its source is not read, the other direction continues, and the loop
 * does not spin. */
static void slow_reader(struct mode mode)
{
    static uint8_t buffer[MIB];
    struct pump fast = {.n_total = 1000 * MIB, .n_chunk = MIB};
    struct pump slow = {.n_total = 4 * MIB, .n_chunk = MIB};
    uint64_t n_stuck = 0;

    set_up_joined(mode);
    for (unsigned n_idle = 0; n_idle < 100;) {
        size_t before = fast.n_sent;
        ssize_t r = send(env.ends[0], buffer, sizeof(buffer), MSG_DONTWAIT | MSG_NOSIGNAL);

        fast.n_sent += r > 0 ? (size_t)r : 0;
        turn();
        n_idle = fast.n_sent == before ? n_idle + 1 : 0;
        assert_true(fast.n_sent < 100 * MIB);
    }
    n_stuck = env.pair->sides[0].n_bytes;
    assert_non_null(env.pair->sides[0].pipe);
    while (slow.n_sent < slow.n_total) { /* the other direction */
        ssize_t r = send(env.ends[1], buffer, MIB, MSG_DONTWAIT | MSG_NOSIGNAL);
        slow.n_sent += r > 0 ? (size_t)r : 0;
        turn();
        while ((r = recv(env.ends[0], buffer, MIB, MSG_DONTWAIT)) > 0)
            slow.n_received += (size_t)r;
        turn();
    }
    assert_int_equal(env.pair->sides[0].n_bytes, n_stuck);
    unsigned n_turns = ev_iteration(env.loop), n_pending = 0;
    for (unsigned i = 0; i < 20; i++) {
        turn();
        n_pending += ev_pending_count(env.loop);
    }
    assert_int_equal(ev_iteration(env.loop) - n_turns, 20);
    assert_int_equal(n_pending, 0);
    for (size_t n_received = 0; n_received < fast.n_sent;) { /* it reads again */
        ssize_t r = receive(1, buffer, sizeof(buffer));
        assert_true(r > 0);
        n_received += (size_t)r;
    }
    tear_down();
}

/* The last bytes and the FIN wait in the pipe for a late reader. */
static void drain_before_fin(struct mode mode)
{
    static uint8_t buffer[MIB];
    size_t n_sent = 0, n_received = 0;

    set_up_joined(mode);
    for (unsigned n_idle = 0; n_idle < 50;) {
        ssize_t r = send(env.ends[0], buffer, sizeof(buffer), MSG_DONTWAIT | MSG_NOSIGNAL);

        n_sent += r > 0 ? (size_t)r : 0;
        n_idle = r > 0 ? 0 : n_idle + 1;
        turn();
    }
    shutdown(env.ends[0], SHUT_WR);
    for (unsigned i = 0; i < 10; i++)
        turn();
    ssize_t r;
    while ((r = receive(1, buffer, sizeof(buffer))) > 0)
        n_received += (size_t)r;
    assert_int_equal(r, 0);
    assert_int_equal(n_received, n_sent);
    tear_down();
}

/* A side without an answer joins again by another way: the new socket counts. */
static void join_again(struct mode mode)
{
    uint8_t byte;

    set_up(mode);
    join(0, mode.transport);
    receive_reply(0, gt_join_receipt);
    int first = gt_steal_fd(&env.ends[0]);
    env.quota.n_fds_max = 3;
    join(0, mode.transport);
    assert_int_equal(recv(first, &byte, 1, 0), 0);
    close(first);
    receive_reply(0, gt_join_receipt);
    join(1, mode.transport);
    receive_reply(0, gt_join_reply);
    receive_reply(1, gt_join_reply);
    assert_int_equal(env.n_complete, 1);
    tear_down();
}

static void join_peer_timeout(struct mode mode)
{
    uint8_t byte;

    set_up(mode);
    limits.join_peer_ms = 30;
    join(0, mode.transport);
    turn_until_closed();
    assert_int_equal(env.code, GT_CODE_EXPIRED);
    assert_int_equal(env.n_complete, 0);
    receive_reply(0, gt_join_receipt);
    assert_true(receive(0, &byte, 1) <= 0); /* without another byte */
    tear_down();
}

static void half_closed_timeout(struct mode mode)
{
    uint8_t byte = 1;

    set_up_joined(mode);
    limits.half_closed_ms = 50;
    uint64_t began = gt_clock_ms();
    shutdown(env.ends[0], SHUT_WR);
    assert_int_equal(receive(1, &byte, 1), 0);
    while (gt_clock_ms() < began + 200) {
        assert_int_equal(send(env.ends[1], &byte, 1, MSG_NOSIGNAL), 1);
        assert_int_equal(receive(0, &byte, 1), 1);
    }
    assert_int_equal(env.n_closed, 0);
    turn_until_closed();
    assert_int_equal(env.code, GT_CODE_EXPIRED);
    tear_down();
}

/* A reset after a half-close is still forwarded as a reset. */
static void reset_after_a_half_close(struct mode mode)
{
    uint8_t byte;

    set_up_joined(mode);
    shutdown(env.ends[1], SHUT_WR);
    assert_int_equal(receive(0, &byte, 1), 0);
    gt_sock_reset(gt_steal_fd(&env.ends[1]));
    shutdown(env.ends[0], SHUT_WR);
    turn_until_closed();
    assert_int_equal(env.code, GT_CODE_LOST);
    tear_down();
}

static void close_by_owner(struct mode mode)
{
    uint8_t byte;

    set_up_joined(mode);
    pair_close(env.pair);
    assert_int_equal(env.n_closed, 0);
    assert_true(receive(0, &byte, 1) <= 0);
    assert_true(receive(1, &byte, 1) <= 0);
    pair_close(env.pair);
    tear_down();
}

static void over_tcp(void (*test)(struct mode))
{
    test((struct mode){PIPE_SPLICED, TRANSPORT_TCP});
    test((struct mode){PIPE_COPIED, TRANSPORT_TCP});
}

static void in_every_mode(void (*test)(struct mode))
{
    over_tcp(test);
    test((struct mode){PIPE_SPLICED, TRANSPORT_UNIX});
    test((struct mode){PIPE_COPIED, TRANSPORT_UNIX});
}

static void test_pair_transfers_both_ways(void **state)
{
    in_every_mode(transfers_both_ways);
}

static void test_pair_transfers_small_pieces(void **state)
{
    in_every_mode(transfers_small_pieces);
}

static void test_pair_half_close_keeps_the_other_direction(void **state)
{
    in_every_mode(half_close);
}

static void test_pair_forwards_a_reset(void **state)
{
    over_tcp(reset);
}

static void test_pair_blocks_only_the_slow_direction(void **state)
{
    in_every_mode(slow_reader);
}

static void test_pair_drains_before_the_fin(void **state)
{
    in_every_mode(drain_before_fin);
}

static void test_pair_reset_after_half_close_stays_a_reset(void **state)
{
    over_tcp(reset_after_a_half_close);
}

static void test_pair_side_may_join_again(void **state)
{
    in_every_mode(join_again);
}

static void test_pair_deadlines_expire(void **state)
{
    in_every_mode(join_peer_timeout);
    in_every_mode(half_closed_timeout);
}

static void test_pair_close_has_no_callback(void **state)
{
    in_every_mode(close_by_owner);
}

static void test_pipe_pool_falls_back_to_buffers(void **state)
{
    struct pipe_pool pool;
    struct pipe *pipes[4];

    pipe_pool_init(&pool, PIPE_SPLICED, 256 * 1024, 2);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(pipe_acquire(&pool, &pipes[i]), 0);
        assert_int_equal(pipes[i]->kind, i < 2 ? PIPE_SPLICED : PIPE_COPIED);
    }
    assert_int_equal(pool.n_spliced, 2);
    for (unsigned i = 0; i < 4; i++)
        pipes[i] = pipe_release(&pool, pipes[i]);
    assert_int_equal(pool.n_idle, 2); /* a pool of pipes keeps no buffers */
    assert_int_equal(pipe_acquire(&pool, &pipes[0]), 0);
    pipes[0]->n_held = 1; /* of a pair that was reset: no other pair may get these bytes */
    pipe_release(&pool, pipes[0]);
    assert_int_equal(pool.n_spliced, 1);
    assert_null(pipe_release(&pool, NULL));
    pipe_pool_drain(&pool);
}

static void test_pipe_pool_has_large_pipes_for_a_few(void **state)
{
    struct pipe_pool pool;
    struct pipe *pipes[40];

    pipe_pool_init(&pool, PIPE_SPLICED, MIB, 512);
    for (unsigned i = 0; i < GT_ARRAY_SIZE(pipes); i++) {
        assert_int_equal(pipe_acquire(&pool, &pipes[i]), 0);
        assert_int_equal(pipes[i]->kind, PIPE_SPLICED);
        assert_true(!i || pipes[i]->capacity <= pipes[i - 1]->capacity);
    }
    size_t big = pipes[0]->capacity, small = pipes[39]->capacity;
    assert_int_equal(small, 64 * 1024);
    for (unsigned i = 0; i < GT_ARRAY_SIZE(pipes); i++)
        pipe_release(&pool, pipes[i]);
    assert_int_equal(pool.n_spliced, 16); /* the smallest were closed */
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(pipe_acquire(&pool, &pipes[i]), 0);
        assert_int_equal(pipes[i]->capacity, big);
    }
    for (unsigned i = 0; i < 4; i++)
        pipe_release(&pool, pipes[i]);
    pipe_pool_drain(&pool);
    assert_int_equal(pool.n_spliced, 0);
}

/* The kernel limits the pages in pipes of a user. The first pipe beyond the limit is a buffer. */
static void acquire_until_a_buffer(void)
{
    static struct pipe *pipes[8192];
    struct pipe_pool pool;
    size_t n = 0;

    pipe_pool_init(&pool, PIPE_SPLICED, MIB, GT_ARRAY_SIZE(pipes));
    for (bool is_copied = false; !is_copied && n < GT_ARRAY_SIZE(pipes); n++) {
        assert_int_equal(pipe_acquire(&pool, &pipes[n]), 0);
        is_copied = pipes[n]->kind == PIPE_COPIED;
        assert_true(pipes[n]->capacity >= 64 * 1024);
    }
    while (n)
        pipe_release(&pool, pipes[--n]);
    pipe_pool_drain(&pool);
    assert_int_equal(pool.n_spliced, 0);
}

static void test_pipe_pool_at_the_kernel_limit_of_a_user(void **state)
{
    int status;
    pid_t child = fork();

    assert_true(child >= 0);
    if (!child) {
        if (!getuid() && setresuid(65534, 65534, 65534))
            _exit(1);
        acquire_until_a_buffer();
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

/* Gotthard's clients send no urgent bytes, and splice(2) cannot pass one. A pair with an urgent
 * byte is reset at once, and the bytes after it are not mistaken for a FIN. */
static void test_pair_urgent_byte_is_a_reset(void **state)
{
    for (unsigned is_ended = 0; is_ended < 2; is_ended++) {
        uint64_t limit = gt_clock_ms() + 5000;
        uint8_t buffer[16];
        ssize_t r;

        set_up_joined((struct mode){PIPE_SPLICED, TRANSPORT_TCP});
        assert_int_equal(send(env.ends[0], "before", 6, 0), 6);
        assert_int_equal(send(env.ends[0], "!", 1, MSG_OOB), 1);
        assert_int_equal(send(env.ends[0], "after", 5, 0), 5);
        if (is_ended)
            shutdown(env.ends[0], SHUT_WR);
        while (!env.n_closed) {
            turn();
            assert_true(gt_clock_ms() < limit);
        }
        assert_int_equal(env.code, GT_CODE_LOST);
        while ((r = receive(1, buffer, sizeof(buffer))) > 0)
            continue;
        assert_int_equal(r, -1);
        assert_int_equal(errno, ECONNRESET);
        tear_down();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pair_transfers_both_ways),
        cmocka_unit_test(test_pair_transfers_small_pieces),
        cmocka_unit_test(test_pair_half_close_keeps_the_other_direction),
        cmocka_unit_test(test_pair_forwards_a_reset),
        cmocka_unit_test(test_pair_blocks_only_the_slow_direction),
        cmocka_unit_test(test_pair_drains_before_the_fin),
        cmocka_unit_test(test_pair_reset_after_half_close_stays_a_reset),
        cmocka_unit_test(test_pair_urgent_byte_is_a_reset),
        cmocka_unit_test(test_pair_side_may_join_again),
        cmocka_unit_test(test_pair_deadlines_expire),
        cmocka_unit_test(test_pair_close_has_no_callback),
        cmocka_unit_test(test_pipe_pool_falls_back_to_buffers),
        cmocka_unit_test(test_pipe_pool_has_large_pipes_for_a_few),
        cmocka_unit_test(test_pipe_pool_at_the_kernel_limit_of_a_user),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
