/* SPDX-License-Identifier: ISC */
/*
 * The framed connection, two of them over a socket pair: queueing before there is a connection,
 * bounds of the queue, frames cut at any byte, malformed frames, peers that do not read, and the
 * end in order. Memory is held only while there are bytes in it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
/* cmocka needs these before it */
#include <cmocka.h>

#include "gotthard/net/sock.h"
#include "gotthard/relay/framed-connection.h"
#include "gotthard/tls/iobuf.h"

#define N_PING 12 /* bytes of an encoded PING */

static const uint8_t key[GT_KEY_SIZE] = "the relay's key of every client!";

struct fixture {
    struct gt_tls_context *contexts[2];
    struct gt_framed_connection client, server;
};

static bool find_psk(void *userdata, struct gt_span identity, uint8_t ret[static GT_KEY_SIZE])
{
    memcpy(ret, key, GT_KEY_SIZE);
    return true;
}

static struct gt_control_frame ping(uint64_t number)
{
    return (struct gt_control_frame){.type = GT_CONTROL_PING, .ping = number};
}

static struct gt_control_frame hello(void)
{
    struct gt_control_frame frame = {.type = GT_CONTROL_HELLO};

    frame.hello.version_min = frame.hello.version_max = 1;
    memset(frame.hello.software, 'x', GT_SOFTWARE_MAX);
    return frame;
}

static void set_up(struct fixture *fixture)
{
    assert_int_equal(gt_tls_context_new(GT_TLS_CLIENT, GT_CONTROL_ALPN, &fixture->contexts[0]), 0);
    assert_int_equal(gt_tls_context_new(GT_TLS_SERVER, GT_CONTROL_ALPN, &fixture->contexts[1]), 0);
    gt_framed_connection_init(&fixture->client);
    gt_framed_connection_init(&fixture->server);
}

/* Both handshakes. The client's Finished stays unsent, as after gt_tls_handshake. */
static void connect_ends(struct fixture *fixture)
{
    struct gt_tls *client, *server;
    int fds[2], r = GT_TLS_E_AGAIN;

    assert_int_equal(gt_sock_pair(fds), 0);
    assert_int_equal(
        gt_tls_new_client(fixture->contexts[0], fds[0], gt_span_text("g1:o:alice"), key, &client),
        0);
    assert_int_equal(gt_tls_new_server(fixture->contexts[1], fds[1], find_psk, NULL, &server), 0);
    for (int i = 0; i < 100 && r == GT_TLS_E_AGAIN; i++) {
        r = gt_tls_handshake(client);
        if (r == GT_TLS_E_AGAIN)
            assert_int_equal(gt_tls_handshake(server), GT_TLS_E_AGAIN);
    }
    assert_int_equal(r, 0);
    gt_framed_connection_attach(&fixture->client, fds[0], client);
    gt_framed_connection_attach(&fixture->server, fds[1], server);
}

static void accept_client(struct fixture *fixture)
{
    assert_int_equal(gt_framed_connection_flush(&fixture->client), 0);
    assert_int_equal(gt_tls_handshake(fixture->server.tls), 0);
}

static void set_up_connected(struct fixture *fixture)
{
    set_up(fixture);
    connect_ends(fixture);
    accept_client(fixture);
}

static void tear_down(struct fixture *fixture)
{
    for (int i = 0; i < 2; i++) { /* twice is allowed */
        gt_framed_connection_deinit(&fixture->client);
        gt_framed_connection_deinit(&fixture->server);
    }
    gt_tls_context_free(fixture->contexts[0]);
    gt_tls_context_free(fixture->contexts[1]);
    assert_int_equal(gt_iobuf_n_held(), 0);
    gt_iobuf_trim();
}

static void queue(struct gt_framed_connection *framed, struct gt_control_frame frame)
{
    assert_int_equal(gt_framed_connection_queue(framed, &frame, 0), 0);
}

/* Queues PINGs until the queue is full; returns how many. */
static unsigned fill(struct gt_framed_connection *framed, size_t reserved)
{
    struct gt_control_frame frame = ping(1);
    unsigned n = 0;
    int r;

    while ((r = gt_framed_connection_queue(framed, &frame, reserved)) == 0)
        n++;
    assert_int_equal(r, GT_FRAMED_CONNECTION_E_FULL);
    return n;
}

/* Reads as a loop would: a short read leaves the socket alone until it is readable again, which is
 * what the second call stands for. */
static int read_more(struct gt_framed_connection *framed)
{
    int r = gt_framed_connection_read(framed);

    return r == GT_FRAMED_CONNECTION_E_AGAIN ? gt_framed_connection_read(framed) : r;
}

/* The next frame, with as many reads as that takes: 0 or a condition. */
static int receive(struct gt_framed_connection *framed, struct gt_control_frame *ret)
{
    int r = gt_framed_connection_decode(framed, ret);

    while (r == GT_FRAMED_CONNECTION_E_AGAIN) {
        r = read_more(framed);
        if (r != 0)
            return r;
        r = gt_framed_connection_decode(framed, ret);
    }
    return r;
}

static void assert_receives_ping(struct gt_framed_connection *framed, uint64_t number)
{
    struct gt_control_frame frame;

    assert_int_equal(receive(framed, &frame), 0);
    assert_int_equal(frame.type, GT_CONTROL_PING);
    assert_int_equal(frame.ping, number);
}

/* Bytes that no encoder makes. */
static void send_bytes(struct gt_framed_connection *framed, const void *data, size_t n)
{
    assert_int_equal(gt_tls_write(framed->tls, data, n), 0);
    assert_int_equal(gt_tls_flush(framed->tls), 0);
}

/* --- sending ---------------------------------------------------------------------------------- */

static void test_frames_queued_before_the_connection_leave_with_the_first_flush(void **state)
{
    struct fixture fixture;
    struct gt_control_frame frame;

    set_up(&fixture);
    queue(&fixture.client, hello());
    queue(&fixture.client, ping(2));
    assert_true(gt_framed_connection_has_unsent(&fixture.client));
    assert_false(gt_framed_connection_wants_write(&fixture.client));
    connect_ends(&fixture);
    accept_client(&fixture);
    assert_false(gt_framed_connection_has_unsent(&fixture.client));
    assert_int_equal(receive(&fixture.server, &frame), 0);
    assert_int_equal(frame.type, GT_CONTROL_HELLO);
    assert_receives_ping(&fixture.server, 2);
    tear_down(&fixture);
}

static void test_queue_is_full_at_its_bound(void **state)
{
    struct fixture fixture;

    set_up(&fixture);
    assert_int_equal(fill(&fixture.client, 0), GT_FRAMED_CONNECTION_OUT / N_PING);
    assert_int_equal(fixture.client.out_size, GT_FRAMED_CONNECTION_OUT);
    tear_down(&fixture);
}

static void test_queue_keeps_reserved_bytes_free(void **state)
{
    struct fixture fixture;

    set_up(&fixture);
    assert_int_equal(fill(&fixture.client, 64), (GT_FRAMED_CONNECTION_OUT - 64) / N_PING);
    assert_int_equal(fill(&fixture.client, 0) >= 64 / N_PING, true);
    tear_down(&fixture);
}

static void test_queue_has_room_below_one_half(void **state)
{
    struct fixture fixture;
    unsigned n = 0;

    set_up(&fixture);
    for (; gt_framed_connection_has_room(&fixture.client); n++)
        queue(&fixture.client, ping(n));
    assert_int_equal(n, (GT_FRAMED_CONNECTION_OUT / 2 + N_PING - 1) / N_PING);
    tear_down(&fixture);
}

static void test_queue_survives_growth_in_order(void **state)
{
    struct fixture fixture;
    unsigned n = 1000;

    set_up_connected(&fixture);
    for (unsigned i = 0; i < n; i++)
        queue(&fixture.client, ping(i));
    assert_int_equal(gt_framed_connection_flush(&fixture.client), 0);
    for (unsigned i = 0; i < n; i++)
        assert_receives_ping(&fixture.server, i);
    tear_down(&fixture);
}

static void test_connection_without_bytes_holds_no_memory(void **state)
{
    struct fixture fixture;
    struct gt_control_frame frame;

    set_up_connected(&fixture);
    queue(&fixture.client, ping(1));
    assert_non_null(fixture.client.out);
    assert_int_equal(gt_framed_connection_flush(&fixture.client), 0);
    assert_null(fixture.client.out);
    assert_receives_ping(&fixture.server, 1);
    assert_non_null(fixture.server.in);
    assert_int_equal(receive(&fixture.server, &frame), GT_FRAMED_CONNECTION_E_AGAIN);
    assert_null(fixture.server.in);
    tear_down(&fixture);
}

/* Fills the socket of a peer that does not read, until the queue is full as well. Returns the
 * number of frames. */
static unsigned fill_socket(struct gt_framed_connection *framed)
{
    unsigned n = 0;

    while (!framed->is_blocked) {
        n += fill(framed, 0);
        assert_int_equal(gt_framed_connection_flush(framed), 0);
    }
    return n + fill(framed, 0);
}

static void test_peer_that_does_not_read_is_held_off_within_bounds(void **state)
{
    struct fixture fixture;
    struct gt_control_frame frame;

    set_up_connected(&fixture);
    unsigned n_sent = fill_socket(&fixture.client), n_received = 0;
    size_t n_held = gt_iobuf_n_held();
    for (int i = 0; i < 100; i++)
        assert_int_equal(gt_framed_connection_flush(&fixture.client), 0);
    assert_int_equal(gt_iobuf_n_held(), n_held);
    assert_true(gt_framed_connection_wants_write(&fixture.client));
    assert_false(gt_framed_connection_has_room(&fixture.client));
    while (n_received < n_sent) {
        int r = receive(&fixture.server, &frame);

        n_received += r == 0;
        if (r == GT_FRAMED_CONNECTION_E_AGAIN)
            assert_int_equal(gt_framed_connection_flush(&fixture.client), 0);
        else
            assert_int_equal(r, 0);
    }
    assert_false(gt_framed_connection_has_unsent(&fixture.client));
    assert_int_equal(receive(&fixture.server, &frame), GT_FRAMED_CONNECTION_E_AGAIN);
    tear_down(&fixture);
}

static void test_flush_reports_a_broken_connection(void **state)
{
    struct fixture fixture;

    set_up_connected(&fixture);
    gt_framed_connection_deinit(&fixture.server);
    queue(&fixture.client, ping(1));
    assert_int_equal(gt_framed_connection_flush(&fixture.client), GT_FRAMED_CONNECTION_E_BROKEN);
    assert_string_equal(gt_tls_why(fixture.client.tls), "Broken pipe");
    tear_down(&fixture);
}

/* --- receiving -------------------------------------------------------------------------------- */

static void test_frames_cut_at_any_byte_arrive(void **state)
{
    struct gt_control_frame frames[] = {ping(1), hello(), ping(2)}, frame;
    uint8_t data[4 * GT_CONTROL_FRAME_MAX];
    size_t n = 0;

    for (size_t i = 0; i < GT_ARRAY_SIZE(frames); i++)
        n += gt_control_encode(&frames[i], data + n);
    for (size_t size = 1; size <= n; size++) {
        struct fixture fixture;
        size_t n_received = 0;

        set_up_connected(&fixture);
        for (size_t at = 0; at < n; at += size) {
            send_bytes(&fixture.client, data + at, GT_MIN(size, n - at));
            while (receive(&fixture.server, &frame) == 0)
                assert_int_equal(frame.type, frames[n_received++].type);
        }
        assert_int_equal(n_received, GT_ARRAY_SIZE(frames));
        tear_down(&fixture);
    }
}

static void test_more_frames_than_the_buffer_holds_arrive_from_one_record(void **state)
{
    static uint8_t data[N_PING * 1000];
    struct fixture fixture;
    size_t n = 0;

    set_up_connected(&fixture);
    for (unsigned i = 0; i < 1000; i++) {
        struct gt_control_frame frame = ping(i);

        n += gt_control_encode(&frame, data + n);
    }
    assert_int_equal(n, sizeof(data));
    send_bytes(&fixture.client, data, n);
    assert_int_equal(read_more(&fixture.server), 0);
    assert_true(gt_framed_connection_has_pending(&fixture.server));
    for (unsigned i = 0; i < 1000; i++)
        assert_receives_ping(&fixture.server, i);
    assert_false(gt_framed_connection_has_pending(&fixture.server));
    tear_down(&fixture);
}

static void test_frame_of_unknown_type_is_skipped(void **state)
{
    static const uint8_t unknown[] = {0x8e, 0, 0, 3, 'n', 'e', 'w'};
    struct fixture fixture;

    set_up_connected(&fixture);
    send_bytes(&fixture.client, unknown, sizeof(unknown));
    queue(&fixture.client, ping(1));
    assert_int_equal(gt_framed_connection_flush(&fixture.client), 0);
    assert_receives_ping(&fixture.server, 1);
    tear_down(&fixture);
}

static void test_malformed_frame_is_reported(void **state)
{
    static const uint8_t bad[][4] = {
        {0x7f, 0, 0, 0},            /* an unknown type that may not be skipped */
        {GT_CONTROL_PING, 0, 0, 7}, /* a wrong length */
        {GT_CONTROL_PING, 1, 0, 8}, /* flags */
        {0x8e, 0, 0xff, 0xff},      /* too long */
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(bad); i++) {
        struct gt_control_frame frame;
        struct fixture fixture;
        uint8_t data[4 + 8] = {0};

        set_up_connected(&fixture);
        memcpy(data, bad[i], sizeof(bad[i]));
        send_bytes(&fixture.client, data, sizeof(data));
        assert_int_equal(receive(&fixture.server, &frame), GT_FRAMED_CONNECTION_E_BAD);
        assert_int_equal(gt_framed_connection_decode(&fixture.server, &frame),
                         GT_FRAMED_CONNECTION_E_BAD);
        tear_down(&fixture);
    }
}

static void test_consumed_bytes_are_wiped(void **state)
{
    struct gt_control_frame frame = {.type = GT_CONTROL_TICKET};
    struct fixture fixture;

    set_up_connected(&fixture);
    frame.ticket.stream = frame.ticket.attempt = 1;
    memset(frame.ticket.secret, 0x5a, sizeof(frame.ticket.secret));
    queue(&fixture.client, frame);
    assert_int_equal(gt_framed_connection_flush(&fixture.client), 0);
    assert_int_equal(receive(&fixture.server, &frame), 0);
    assert_int_equal(frame.ticket.secret[31], 0x5a);
    assert_null(memchr(fixture.server.in, 0x5a, GT_CONTROL_FRAME_MAX));
    tear_down(&fixture);
}

static void test_random_bytes_never_break_the_bounds(void **state)
{
    unsigned seed = (unsigned)time(NULL);

    print_message("seed %u\n", seed);
    srand(seed);
    for (int round = 0; round < 300; round++) {
        struct gt_control_frame frame;
        struct fixture fixture;
        uint8_t data[3000];
        int r = 0;

        set_up_connected(&fixture);
        for (size_t i = 0; i < sizeof(data); i++)
            data[i] = (uint8_t)(rand() % 4 ? 0 : rand());
        data[0] = (uint8_t)(round % 2 ? 0x80 : round);
        send_bytes(&fixture.client, data, sizeof(data));
        while (r == 0) {
            r = receive(&fixture.server, &frame);
            assert_in_range(fixture.server.n_in, 0, GT_FRAMED_CONNECTION_IN);
        }
        assert_true(r == GT_FRAMED_CONNECTION_E_AGAIN || r == GT_FRAMED_CONNECTION_E_BAD);
        tear_down(&fixture);
    }
}

/* --- ends ------------------------------------------------------------------------------------- */

static void test_disconnect_sends_close_notify_and_keeps_the_queue(void **state)
{
    struct fixture fixture;
    struct gt_control_frame frame;

    set_up_connected(&fixture);
    queue(&fixture.client, ping(1));
    gt_framed_connection_disconnect(&fixture.client);
    assert_int_equal(fixture.client.fd, -1);
    assert_int_equal(fixture.client.n_out, N_PING);
    assert_int_equal(receive(&fixture.server, &frame), GT_FRAMED_CONNECTION_E_CLOSED);
    tear_down(&fixture);
}

static void test_deinit_sends_no_close_notify(void **state)
{
    struct fixture fixture;
    struct gt_control_frame frame;

    set_up_connected(&fixture);
    gt_framed_connection_deinit(&fixture.client);
    assert_int_equal(receive(&fixture.server, &frame), GT_FRAMED_CONNECTION_E_BROKEN);
    assert_true(gt_tls_is_hung_up(fixture.server.tls));
    tear_down(&fixture);
}

static void test_finish_sends_the_queue_then_close_notify_then_fin(void **state)
{
    struct fixture fixture;
    struct gt_control_frame frame;
    uint8_t byte;

    set_up_connected(&fixture);
    queue(&fixture.client, ping(1));
    assert_int_equal(gt_framed_connection_finish(&fixture.client), 0);
    assert_int_equal(gt_framed_connection_finish(&fixture.client), 0); /* harmless */
    assert_receives_ping(&fixture.server, 1);
    assert_int_equal(receive(&fixture.server, &frame), GT_FRAMED_CONNECTION_E_CLOSED);
    assert_int_equal(recv(fixture.server.fd, &byte, 1, MSG_DONTWAIT), 0);
    tear_down(&fixture);
}

static void test_finish_waits_for_a_peer_that_does_not_read(void **state)
{
    struct fixture fixture;
    struct gt_control_frame frame;
    int r = 0;

    set_up_connected(&fixture);
    fill_socket(&fixture.client);
    assert_int_equal(gt_framed_connection_finish(&fixture.client), GT_FRAMED_CONNECTION_E_AGAIN);
    assert_true(gt_framed_connection_wants_write(&fixture.client));
    while (r == 0 || r == GT_FRAMED_CONNECTION_E_AGAIN) {
        if (r == GT_FRAMED_CONNECTION_E_AGAIN)
            assert_int_not_equal(gt_framed_connection_finish(&fixture.client),
                                 GT_FRAMED_CONNECTION_E_BROKEN);
        r = receive(&fixture.server, &frame);
    }
    assert_int_equal(r, GT_FRAMED_CONNECTION_E_CLOSED);
    assert_int_equal(gt_framed_connection_finish(&fixture.client), 0);
    tear_down(&fixture);
}

static void test_linger_discards_until_the_peer_closes(void **state)
{
    struct fixture fixture;

    set_up_connected(&fixture);
    assert_int_equal(gt_framed_connection_finish(&fixture.client), 0);
    assert_int_equal(gt_framed_connection_linger(&fixture.client), GT_FRAMED_CONNECTION_E_AGAIN);
    queue(&fixture.server, ping(1));
    assert_int_equal(gt_framed_connection_flush(&fixture.server), 0);
    assert_int_equal(gt_framed_connection_linger(&fixture.client), GT_FRAMED_CONNECTION_E_AGAIN);
    assert_int_equal(gt_framed_connection_linger(&fixture.client), GT_FRAMED_CONNECTION_E_AGAIN);
    gt_framed_connection_disconnect(&fixture.server);
    while (gt_framed_connection_linger(&fixture.client) == GT_FRAMED_CONNECTION_E_AGAIN)
        assert_int_equal(fixture.server.fd, -1);
    tear_down(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frames_queued_before_the_connection_leave_with_the_first_flush),
        cmocka_unit_test(test_queue_is_full_at_its_bound),
        cmocka_unit_test(test_queue_keeps_reserved_bytes_free),
        cmocka_unit_test(test_queue_has_room_below_one_half),
        cmocka_unit_test(test_queue_survives_growth_in_order),
        cmocka_unit_test(test_connection_without_bytes_holds_no_memory),
        cmocka_unit_test(test_peer_that_does_not_read_is_held_off_within_bounds),
        cmocka_unit_test(test_flush_reports_a_broken_connection),
        cmocka_unit_test(test_frames_cut_at_any_byte_arrive),
        cmocka_unit_test(test_more_frames_than_the_buffer_holds_arrive_from_one_record),
        cmocka_unit_test(test_frame_of_unknown_type_is_skipped),
        cmocka_unit_test(test_malformed_frame_is_reported),
        cmocka_unit_test(test_consumed_bytes_are_wiped),
        cmocka_unit_test(test_random_bytes_never_break_the_bounds),
        cmocka_unit_test(test_disconnect_sends_close_notify_and_keeps_the_queue),
        cmocka_unit_test(test_deinit_sends_no_close_notify),
        cmocka_unit_test(test_finish_sends_the_queue_then_close_notify_then_fin),
        cmocka_unit_test(test_finish_waits_for_a_peer_that_does_not_read),
        cmocka_unit_test(test_linger_discards_until_the_peer_closes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
