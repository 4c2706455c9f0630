/* SPDX-License-Identifier: ISC */
/*
 * client.c, client-states.c and client-input.c over a socket pair: the handshake, the order of
 * frames, the limits and the deadlines, and the end of a client. The peer is driven from the same
 * loop.
 */
#include "control/client.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define TEST_LIMIT_MS 20000 /* of one wait */

static const uint8_t alice_key[GT_KEY_SIZE] = "the relay's key of every client!";

static struct {
    struct ev_loop *loop;
    struct quota quota;
    struct gt_tls_context *server, *client;
    struct client_host host;
    struct gt_framed_connection peer;
    unsigned n_frames, n_ends;
    struct gt_control_frame frame; /* the last one that on_frame got */
} env;

static void on_frame(void *userdata, struct client *client, const struct gt_control_frame *frame)
{
    env.n_frames++;
    env.frame = *frame;
}

static void on_end(void *userdata, struct client *client)
{
    env.n_ends++;
}

/* The relay has no memory for its next allocation in a handshake. */
static bool is_handshake_without_memory, is_next_allocation_failing;

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);

void *__wrap_malloc(size_t n)
{
    bool fails = is_next_allocation_failing;

    is_next_allocation_failing = false;
    return fails ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return __real_calloc(n, size);
}

static struct client_limits default_limits(void)
{
    return (struct client_limits){
        .handshake_ms = 60000,
        .hello_ms = 60000,
        .heartbeat_ms = 60000,
        .heartbeat_timeout_ms = 180000,
        .without_session_ms = 60000,
        .lifetime_ms = 3600000,
        .n_frames = 1000,
        .n_per_identity = 4,
        .n_streams = 7,
    };
}

static int set_up(void **state)
{
    struct client_limits limits = default_limits();

    memset(&env, 0, sizeof(env));
    env.loop = ev_loop_new(EVFLAG_AUTO);
    quota_init(&env.quota,
               &(struct quota_limits){
                   .n_preauths = 99, .n_handshakes = 99, .n_of_identity = 99, .n_per_source = 99},
               100);
    assert_int_equal(gt_tls_context_new(GT_TLS_SERVER, GT_CONTROL_ALPN, &env.server), 0);
    assert_int_equal(gt_tls_context_new(GT_TLS_CLIENT, GT_CONTROL_ALPN, &env.client), 0);
    client_host_init(&env.host, env.loop);
    env.host.tls = env.server;
    env.host.on_frame = on_frame;
    env.host.on_end = on_end;
    client_host_set_limits(&env.host, &limits);
    gt_framed_connection_init(&env.peer);
    return 0;
}

static int tear_down(void **state)
{
    struct quota_counts counts;

    client_host_deinit(&env.host);
    assert_int_equal(env.host.n_clients, 0);
    gt_framed_connection_deinit(&env.peer);
    quota_count(&env.quota, &counts);
    assert_int_equal(counts.n_fds, 0);
    quota_deinit(&env.quota);
    gt_tls_context_free(env.server);
    gt_tls_context_free(env.client);
    ev_loop_destroy(env.loop);
    return 0;
}

static const uint8_t source[QUOTA_SOURCE] = {1, 2, 3};

/* The relay's end of a socket pair; the peer's end is *@ret_peer. */
static struct client *accept_client(int *ret_peer)
{
    struct proof proof = {.identity = "g1:o:alice"};
    struct quota_charge charge;
    struct gt_addr addr;
    int fds[2];

    memcpy(proof.psk, alice_key, GT_KEY_SIZE);
    memset(proof.key_id, 42, GT_KEY_ID_SIZE);
    assert_int_equal(gt_sock_pair(fds), 0);
    assert_int_equal(gt_addr_parse("127.0.0.1", 4242, &addr), 0);
    assert_int_equal(quota_admit(&env.quota, source, fds[0], CHARGE_PROVED, &charge), 0);
    client_new(&env.host, fds[0], &addr, gt_clock_ms(), &charge, &proof);
    *ret_peer = fds[1];
    return gt_list_is_empty(&env.host.open)
               ? NULL
               : gt_list_entry(env.host.open.previous, struct client, of_host);
}

static void turn(void)
{
    is_next_allocation_failing = is_handshake_without_memory;
    client_host_flush(&env.host);
    client_host_reap(&env.host);
    ev_run(env.loop, EVRUN_NOWAIT);
    is_next_allocation_failing = false;
}

static bool is_late(uint64_t *deadline)
{
    if (!*deadline)
        *deadline = gt_clock_ms() + TEST_LIMIT_MS;
    return gt_clock_ms() > *deadline;
}

static const char *peer_identity = "g1:o:alice";

static struct client *connect_peer(struct gt_framed_connection *peer, const uint8_t *key)
{
    struct gt_tls *tls;
    int fd, r;
    uint64_t deadline = 0;
    struct client *client = accept_client(&fd);

    assert_int_equal(gt_tls_new_client(env.client, fd, gt_span_text(peer_identity), key, &tls), 0);
    gt_framed_connection_attach(peer, fd, tls);
    while ((r = gt_tls_handshake(tls)) == GT_TLS_E_AGAIN) {
        turn();
        assert_false(is_late(&deadline));
    }
    if (r)
        return NULL;
    assert_int_equal(gt_framed_connection_flush(peer), 0);
    while (client->state == CLIENT_HANDSHAKE) {
        turn();
        assert_false(is_late(&deadline));
    }
    return client;
}

static void send_frame(struct gt_control_frame frame)
{
    assert_int_equal(gt_framed_connection_queue(&env.peer, &frame, 0), 0);
    assert_int_equal(gt_framed_connection_flush(&env.peer), 0);
}

/* Runs the loop until the peer has received a frame, or a condition other than E_AGAIN. */
static int receive(struct gt_control_frame *ret)
{
    uint64_t deadline = 0;

    for (;;) {
        int r = gt_framed_connection_decode(&env.peer, ret);

        if (r == GT_FRAMED_CONNECTION_E_AGAIN)
            r = gt_framed_connection_read(&env.peer);
        else
            return r;
        if (r && r != GT_FRAMED_CONNECTION_E_AGAIN)
            return r;
        turn();
        assert_false(is_late(&deadline));
    }
}

static void assert_receives(enum gt_control_type type, unsigned code)
{
    struct gt_control_frame frame;

    assert_int_equal(receive(&frame), 0);
    assert_int_equal(frame.type, type);
    if (type == GT_CONTROL_ERROR || type == GT_CONTROL_BYE)
        assert_int_equal(frame.code, code);
}

static void assert_is_closed(void)
{
    struct gt_control_frame frame;
    uint64_t deadline = 0;

    assert_int_equal(receive(&frame), GT_FRAMED_CONNECTION_E_CLOSED);
    gt_framed_connection_deinit(&env.peer);
    while (env.host.n_clients) {
        turn();
        assert_false(is_late(&deadline));
    }
}

static struct gt_control_frame hello(void)
{
    struct gt_control_frame frame = {.type = GT_CONTROL_HELLO};

    frame.hello.version_min = frame.hello.version_max = GT_CONTROL_VERSION;
    snprintf(frame.hello.software, sizeof(frame.hello.software), "test");
    return frame;
}

static struct client *ready_client(void)
{
    struct client *client = connect_peer(&env.peer, alice_key);

    assert_non_null(client);
    assert_int_equal(client->state, CLIENT_HELLO);
    send_frame(hello());
    assert_receives(GT_CONTROL_WELCOME, 0);
    assert_int_equal(client->state, CLIENT_READY);
    return client;
}

static struct gt_control_frame frame_of(enum gt_control_type type)
{
    struct gt_control_frame frame = {.type = type};

    switch (type) {
    case GT_CONTROL_HELLO: return hello();
    case GT_CONTROL_WELCOME: frame.welcome.version = 1; break;
    case GT_CONTROL_SESSION: frame.session.port = 1; break;
    case GT_CONTROL_OPEN: frame.open.stream = frame.open.attempt = 1; break;
    case GT_CONTROL_TICKET: frame.ticket.stream = frame.ticket.attempt = 1; break;
    case GT_CONTROL_STREAM_END: frame.stream_end.stream = frame.stream_end.attempt = 1; break;
    case GT_CONTROL_LOAD: frame.load = 1; break;
    case GT_CONTROL_ACCESS: frame.access = gt_span_text("a part"); break;
    case GT_CONTROL_EFFECT:
    case GT_CONTROL_RENDEZVOUS:
    case GT_CONTROL_PEER:
    case GT_CONTROL_PING:
    case GT_CONTROL_PONG:
    case GT_CONTROL_RESTARTING:
    case GT_CONTROL_BYE:
    case GT_CONTROL_ERROR:
    case GT_CONTROL_LIMIT: break;
    }
    return frame;
}

static const enum gt_control_type all_types[] = {
    GT_CONTROL_HELLO,  GT_CONTROL_WELCOME, GT_CONTROL_RENDEZVOUS, GT_CONTROL_SESSION,
    GT_CONTROL_PEER,   GT_CONTROL_OPEN,    GT_CONTROL_TICKET,     GT_CONTROL_STREAM_END,
    GT_CONTROL_PING,   GT_CONTROL_PONG,    GT_CONTROL_RESTARTING, GT_CONTROL_BYE,
    GT_CONTROL_ERROR,  GT_CONTROL_LOAD,    GT_CONTROL_LIMIT,      GT_CONTROL_ACCESS,
    GT_CONTROL_EFFECT,
};

/* --- handshake and HELLO ---------------------------------------------------------------------- */

static void test_client_is_welcomed_after_hello(void **state)
{
    struct gt_control_frame frame;
    struct client *client = connect_peer(&env.peer, alice_key);

    memcpy(env.host.boot_id, "0123456789abcdef", sizeof(env.host.boot_id));
    send_frame(hello());
    assert_int_equal(receive(&frame), 0);
    assert_int_equal(frame.type, GT_CONTROL_WELCOME);
    assert_int_equal(frame.welcome.version, GT_CONTROL_VERSION);
    assert_memory_equal(frame.welcome.boot_id, env.host.boot_id, sizeof(env.host.boot_id));
    assert_int_equal(frame.welcome.heartbeat_ms, 60000);
    assert_int_equal(frame.welcome.max_streams, 7);
    assert_int_equal(frame.welcome.ttl_s, 3600);
    assert_string_equal(client->identity, "g1:o:alice");
    assert_string_equal(client->name, "alice");
    assert_int_equal(client->role, GT_ROLE_OPERATOR);
    assert_int_equal(client->charge.state, CHARGE_KNOWN);
}

static void test_client_with_a_wrong_key_is_closed(void **state)
{
    static const uint8_t wrong[GT_KEY_SIZE] = "another key";

    assert_null(connect_peer(&env.peer, wrong));
    assert_int_equal(env.host.n_clients, 0);
    assert_int_equal(env.n_ends, 0);
}

/* The proof is one of its identity only. */
static void test_client_with_another_identity_is_closed(void **state)
{
    peer_identity = "g1:o:bob";
    assert_null(connect_peer(&env.peer, alice_key));
    peer_identity = "g1:o:alice";
    assert_int_equal(env.host.n_clients, 0);
}

static void test_client_of_a_relay_without_memory_is_closed(void **state)
{
    is_handshake_without_memory = true;
    assert_null(connect_peer(&env.peer, alice_key));
    is_handshake_without_memory = false;
    assert_false(gt_tls_is_refused(env.peer.tls));
    assert_int_equal(env.host.n_clients, 0);
}

static void test_client_handshake_timeout_closes(void **state)
{
    struct client_limits limits = default_limits();
    uint64_t deadline = 0;
    uint8_t byte;
    int fd;

    limits.handshake_ms = 30;
    client_host_set_limits(&env.host, &limits);
    assert_non_null(accept_client(&fd));
    while (env.host.n_clients) {
        turn();
        assert_false(is_late(&deadline));
    }
    assert_int_equal(recv(fd, &byte, 1, 0), 0); /* and not a byte */
    close(fd);
}

static void test_client_hello_timeout_closes(void **state)
{
    struct client_limits limits = default_limits();
    uint64_t deadline = 0;

    limits.hello_ms = 30;
    client_host_set_limits(&env.host, &limits);
    assert_non_null(connect_peer(&env.peer, alice_key));
    while (env.host.n_clients) {
        turn();
        assert_false(is_late(&deadline));
    }
    assert_int_equal(env.n_ends, 0);
}

/* Beyond the limit of handshakes, the oldest one is closed. */
static void test_client_handshakes_have_a_limit(void **state)
{
    uint64_t deadline = 0;
    int fds[3];

    env.quota.limits.n_handshakes = 2;
    for (unsigned i = 0; i < 3; i++)
        assert_non_null(accept_client(&fds[i]));
    while (env.host.n_clients > 2) {
        turn();
        assert_false(is_late(&deadline));
    }
    for (unsigned i = 0; i < 3; i++) {
        uint8_t byte;
        ssize_t n = recv(fds[i], &byte, 1, MSG_DONTWAIT);

        assert_int_equal(n, i == 0 ? 0 : -1);
        close(fds[i]);
    }
}

static void test_client_without_a_common_version_is_rejected(void **state)
{
    static const uint16_t versions[][2] = {{2, 9}, {UINT16_MAX, UINT16_MAX}};

    for (size_t i = 0; i < GT_ARRAY_SIZE(versions); i++) {
        struct gt_control_frame frame = hello();

        assert_non_null(connect_peer(&env.peer, alice_key));
        frame.hello.version_min = versions[i][0];
        frame.hello.version_max = versions[i][1];
        send_frame(frame);
        assert_receives(GT_CONTROL_ERROR, GT_CODE_VERSION);
        assert_is_closed();
    }
    assert_int_equal(env.n_ends, 0);
}

static void test_client_identity_has_a_limit_of_connections(void **state)
{
    struct gt_framed_connection peers[4];

    for (unsigned i = 0; i < GT_ARRAY_SIZE(peers); i++) {
        gt_framed_connection_init(&peers[i]);
        assert_non_null(connect_peer(&peers[i], alice_key));
    }
    assert_non_null(connect_peer(&env.peer, alice_key));
    send_frame(hello());
    assert_receives(GT_CONTROL_LIMIT, 0);
    assert_receives(GT_CONTROL_ERROR, GT_CODE_IDENTITY);
    assert_int_equal(env.host.n_clients, 5);
    for (unsigned i = 0; i < GT_ARRAY_SIZE(peers); i++)
        gt_framed_connection_deinit(&peers[i]);
    assert_is_closed();
    assert_null(env.host.identities.by_name);
}

/* --- frames ----------------------------------------------------------------------------------- */

static void test_client_accepts_only_hello_first(void **state)
{
    for (size_t i = 0; i < GT_ARRAY_SIZE(all_types); i++) {
        if (all_types[i] == GT_CONTROL_HELLO)
            continue;
        assert_non_null(connect_peer(&env.peer, alice_key));
        send_frame(frame_of(all_types[i]));
        assert_receives(GT_CONTROL_ERROR, GT_CODE_PROTOCOL);
        assert_is_closed();
    }
    assert_int_equal(env.n_frames, 0);
    assert_int_equal(env.n_ends, 0);
}

/* The table once more, written from docs/protocol.md. */
static void test_client_handles_each_frame_type_when_ready(void **state)
{
    for (size_t i = 0; i < GT_ARRAY_SIZE(all_types); i++) {
        struct client *client = ready_client();
        unsigned n_frames = env.n_frames, n_ends = env.n_ends;
        enum gt_control_type type = all_types[i];
        bool is_request = type == GT_CONTROL_RENDEZVOUS || type == GT_CONTROL_OPEN ||
                          type == GT_CONTROL_STREAM_END || type == GT_CONTROL_LOAD ||
                          type == GT_CONTROL_ACCESS || type == GT_CONTROL_BYE;

        send_frame(frame_of(type));
        if (is_request || type == GT_CONTROL_PING || type == GT_CONTROL_PONG) {
            send_frame((struct gt_control_frame){.type = GT_CONTROL_PING, .ping = 99});
            if (type == GT_CONTROL_PING)
                assert_receives(GT_CONTROL_PONG, 0);
            assert_receives(GT_CONTROL_PONG, 0);
            assert_int_equal(env.n_frames, n_frames + is_request);
            if (is_request)
                assert_int_equal(env.frame.type, type);
            client_close(client, "the end of a test");
        } else if (type != GT_CONTROL_ERROR) {
            assert_receives(GT_CONTROL_ERROR, GT_CODE_PROTOCOL);
        }
        assert_is_closed();
        assert_int_equal(env.n_ends, n_ends + 1);
    }
}

static void test_client_malformed_frame_is_rejected(void **state)
{
    static const uint8_t malformed[][5] = {
        {0x7f, 0, 0, 0},    /* unknown type below 0x80 */
        {0x30, 1, 0, 8},    /* flags */
        {0x30, 0, 0, 7},    /* length of a PING */
        {0x30, 0, 255, 255} /* longer than any frame */
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(malformed); i++) {
        uint8_t bytes[16] = {0};

        ready_client();
        memcpy(bytes, malformed[i], sizeof(malformed[i]));
        assert_int_equal(gt_tls_write(env.peer.tls, bytes, sizeof(bytes)), 0);
        assert_int_equal(gt_tls_flush(env.peer.tls), 0);
        assert_receives(GT_CONTROL_ERROR, GT_CODE_PROTOCOL);
        assert_is_closed();
    }
}

static void test_client_frames_cut_at_any_byte_are_handled(void **state)
{
    uint8_t bytes[GT_CONTROL_FRAME_MAX];
    struct gt_control_frame ping = {.type = GT_CONTROL_PING, .ping = 1};
    size_t n = gt_control_encode(&ping, bytes);

    ready_client();
    for (size_t cut = 1; cut < n; cut++) {
        assert_int_equal(gt_tls_write(env.peer.tls, bytes, cut), 0);
        assert_int_equal(gt_tls_flush(env.peer.tls), 0);
        turn();
        assert_int_equal(gt_tls_write(env.peer.tls, bytes + cut, n - cut), 0);
        assert_int_equal(gt_tls_flush(env.peer.tls), 0);
        assert_receives(GT_CONTROL_PONG, 0);
    }
}

static void test_client_burst_larger_than_a_turn_is_handled(void **state)
{
    enum { N = 5000 };
    struct client_limits limits = default_limits();
    struct gt_control_frame frame, ping = {.type = GT_CONTROL_PING};
    unsigned n_sent = 0;

    limits.n_frames = 1000000;
    client_host_set_limits(&env.host, &limits);
    ready_client();
    for (unsigned n_received = 0; n_received < N; n_received++) {
        for (; n_sent < N && gt_framed_connection_has_room(&env.peer); n_sent++) {
            ping.ping = n_sent;
            assert_int_equal(gt_framed_connection_queue(&env.peer, &ping, 0), 0);
        }
        assert_int_equal(gt_framed_connection_flush(&env.peer), 0);
        assert_int_equal(receive(&frame), 0);
        assert_int_equal(frame.type, GT_CONTROL_PONG);
        assert_int_equal(frame.ping, n_received);
    }
}

/* --- limits and deadlines --------------------------------------------------------------------- */

static void test_client_above_the_frame_limit_pauses_and_continues(void **state)
{
    struct client_limits limits = default_limits();
    struct client *client = ready_client();
    uint64_t began = gt_clock_ms(), deadline = 0;

    limits.n_frames = 10;
    client_host_set_limits(&env.host, &limits); /* applies to a present client */
    for (unsigned i = 0; i < 24; i++) {
        struct gt_control_frame ping = {.type = GT_CONTROL_PING, .ping = i};

        assert_int_equal(gt_framed_connection_queue(&env.peer, &ping, 0), 0);
    }
    assert_int_equal(gt_framed_connection_flush(&env.peer), 0);
    turn();
    assert_int_equal(client->state, CLIENT_PAUSED);
    for (unsigned i = 0; i < 24; i++)
        assert_receives(GT_CONTROL_PONG, 0);
    assert_true(gt_clock_ms() - began >= 250);
    while (client->state == CLIENT_PAUSED) {
        turn();
        assert_false(is_late(&deadline));
    }
    assert_int_equal(client->state, CLIENT_READY);
}

static void test_client_too_many_bytes_before_hello_are_rejected(void **state)
{
    static const uint8_t skipped[4] = {0xff, 0, 0, 0}; /* an unknown type that may be skipped */
    struct client_limits limits = default_limits();

    limits.n_frames = 1;
    client_host_set_limits(&env.host, &limits);
    assert_non_null(connect_peer(&env.peer, alice_key));
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(gt_tls_write(env.peer.tls, skipped, sizeof(skipped)), 0);
        assert_int_equal(gt_tls_flush(env.peer.tls), 0);
        turn();
    }
    assert_receives(GT_CONTROL_ERROR, GT_CODE_PROTOCOL);
    assert_is_closed();
}

static void test_client_silent_is_probed_and_then_lost(void **state)
{
    struct client_limits limits = default_limits();
    uint64_t deadline = 0;

    limits.heartbeat_ms = 30;
    limits.heartbeat_timeout_ms = 200;
    client_host_set_limits(&env.host, &limits);
    ready_client();
    assert_receives(GT_CONTROL_PING, 0);
    assert_int_equal(env.n_ends, 0);
    while (env.host.n_clients) {
        turn();
        assert_false(is_late(&deadline));
    }
    assert_int_equal(env.n_ends, 1);
}

static void test_client_without_a_session_is_closed(void **state)
{
    struct client_limits limits = default_limits();

    limits.without_session_ms = 30;
    client_host_set_limits(&env.host, &limits);
    ready_client();
    assert_receives(GT_CONTROL_BYE, GT_CODE_PAIRING);
    assert_is_closed();
    assert_int_equal(env.n_ends, 1);
}

static void test_client_with_a_session_stays(void **state)
{
    struct client_limits limits = default_limits();
    struct gt_list slot;
    struct client *client;
    uint64_t began;

    limits.without_session_ms = 30;
    client = ready_client();
    gt_list_init(&slot);
    client_enter_slot(client, &slot);
    client_host_set_limits(&env.host, &limits);
    for (began = gt_clock_ms(); gt_clock_ms() < began + 100;)
        turn();
    assert_int_equal(client->state, CLIENT_READY);
    client_leave_slot(client, &slot);
    assert_receives(GT_CONTROL_BYE, GT_CODE_PAIRING);
    assert_is_closed();
}

/* --- the end ---------------------------------------------------------------------------------- */

static void test_client_that_does_not_read_is_closed(void **state)
{
    struct client *client = ready_client();
    struct gt_control_frame frame = {.type = GT_CONTROL_PING};
    unsigned n = 0;

    for (; client->state == CLIENT_READY; n++)
        client_send(client, &frame);
    assert_int_equal(client->state, CLIENT_SEND_QUEUE_FULL);
    assert_in_range(n, 1000, 1000000); /* several queues fit into TLS and the socket */
    assert_int_equal(env.n_ends, 0);   /* sending never calls back */
    client_send(client, &frame);
    client_host_flush(&env.host);
    assert_int_equal(client->state, CLIENT_CLOSED);
    assert_int_equal(env.n_ends, 1);
    assert_int_equal(env.host.n_clients, 0);
    client_host_reap(&env.host);
}

/* Such a client is watched for writing only. The watcher must stop before the descriptor is closed,
 * although TLS still has bytes to write. */
static void test_client_that_does_not_read_is_not_watched_after_its_end(void **state)
{
    struct client *client = ready_client();
    struct gt_control_frame frame = {.type = GT_CONTROL_PING};

    while (client->state == CLIENT_READY) {
        client_send(client, &frame);
        if (!gt_framed_connection_wants_write(&client->framed))
            client_host_flush(&env.host); /* watches the socket */
    }
    client_host_flush(&env.host);
    assert_int_equal(client->state, CLIENT_CLOSED);
    assert_false(ev_is_active(&client->io));
    assert_false(ev_is_active(&client->timer));
}

static void test_client_last_frame_arrives_before_the_end(void **state)
{
    struct client *client = ready_client();

    client_fail(client, GT_CODE_LIMIT, NULL, "a test");
    assert_int_equal(client->state, CLIENT_CLOSING);
    assert_int_equal(env.n_ends, 1);
    client_send_code(client, GT_CONTROL_BYE, NULL, GT_CODE_BYE);    /* dropped */
    client_close(client, "again");                                  /* no effect */
    send_frame((struct gt_control_frame){.type = GT_CONTROL_PING}); /* discarded */
    assert_receives(GT_CONTROL_ERROR, GT_CODE_LIMIT);
    assert_is_closed();
    assert_int_equal(env.n_ends, 1);
}

static void test_client_that_stays_after_the_end_is_closed_in_a_second(void **state)
{
    struct client *client = ready_client();
    uint64_t began = gt_clock_ms(), deadline = 0;

    client_close(client, "a test");
    while (env.host.n_clients) {
        turn();
        assert_false(is_late(&deadline));
    }
    assert_in_range(gt_clock_ms() - began, 900, 5000);
}

/* Closing a socket with unread bytes in it is a reset. */
static void test_client_reset_counts_as_a_hang_up(void **state)
{
    struct client *client = ready_client();
    uint64_t deadline = 0;

    client_send_code(client, GT_CONTROL_PEER, NULL, GT_CODE_NONE);
    client_host_flush(&env.host);
    gt_framed_connection_deinit(&env.peer);
    while (!env.n_ends) {
        ev_run(env.loop, EVRUN_NOWAIT);
        assert_false(is_late(&deadline));
    }
    assert_string_equal(client->reason, "Connection reset by peer");
    assert_true(client->is_hung_up);
}

static void test_client_hang_up_is_found_while_sending(void **state)
{
    struct client *client = ready_client();

    gt_framed_connection_deinit(&env.peer);
    client_send_code(client, GT_CONTROL_PEER, NULL, GT_CODE_NONE);
    client_host_flush(&env.host);
    assert_int_equal(env.n_ends, 1);
    assert_true(client->is_hung_up);
}

static void test_client_hang_up_is_distinguished_from_an_end_in_order(void **state)
{
    struct client *client = ready_client();
    uint64_t deadline = 0;

    gt_framed_connection_deinit(&env.peer); /* as for a killed process: no close_notify */
    while (!env.n_ends) {
        ev_run(env.loop, EVRUN_NOWAIT);
        assert_false(is_late(&deadline));
    }
    assert_true(client->is_hung_up);
    turn();
    client = ready_client();
    gt_framed_connection_disconnect(&env.peer);
    while (env.n_ends < 2) {
        ev_run(env.loop, EVRUN_NOWAIT);
        assert_false(is_late(&deadline));
    }
    assert_false(client->is_hung_up);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

static enum gt_code code_of_check;

static enum gt_code check(void *userdata, const char *identity, const uint8_t *key_id)
{
    assert_string_equal(identity, "g1:o:alice");
    assert_int_equal(key_id[0], 42);
    return code_of_check;
}

/* The settings may change between the ClientHello and the end of the handshake. */
static void test_client_is_checked_after_its_handshake(void **state)
{
    env.host.check = check;
    code_of_check = GT_CODE_REFUSED;
    connect_peer(&env.peer, alice_key);
    assert_receives(GT_CONTROL_BYE, GT_CODE_REFUSED);
    assert_is_closed();
    assert_int_equal(env.n_ends, 0);
}

static void test_clients_are_checked_again(void **state)
{
    struct client *client;

    env.host.check = check;
    code_of_check = GT_CODE_NONE;
    client = ready_client();
    client_host_check(&env.host);
    assert_int_equal(client->state, CLIENT_READY);
    code_of_check = GT_CODE_OLD_KEY;
    client_host_check(&env.host);
    assert_int_equal(client->state, CLIENT_CLOSING);
    client_host_check(&env.host); /* once is enough */
    assert_receives(GT_CONTROL_BYE, GT_CODE_OLD_KEY);
    assert_is_closed();
    assert_int_equal(env.n_ends, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_client_is_welcomed_after_hello),
        TEST(test_client_with_a_wrong_key_is_closed),
        TEST(test_client_of_a_relay_without_memory_is_closed),
        TEST(test_client_handshake_timeout_closes),
        TEST(test_client_hello_timeout_closes),
        TEST(test_client_handshakes_have_a_limit),
        TEST(test_client_with_another_identity_is_closed),
        TEST(test_client_without_a_common_version_is_rejected),
        TEST(test_client_identity_has_a_limit_of_connections),
        TEST(test_client_accepts_only_hello_first),
        TEST(test_client_handles_each_frame_type_when_ready),
        TEST(test_client_malformed_frame_is_rejected),
        TEST(test_client_frames_cut_at_any_byte_are_handled),
        TEST(test_client_burst_larger_than_a_turn_is_handled),
        TEST(test_client_above_the_frame_limit_pauses_and_continues),
        TEST(test_client_too_many_bytes_before_hello_are_rejected),
        TEST(test_client_silent_is_probed_and_then_lost),
        TEST(test_client_without_a_session_is_closed),
        TEST(test_client_with_a_session_stays),
        TEST(test_client_that_does_not_read_is_closed),
        TEST(test_client_that_does_not_read_is_not_watched_after_its_end),
        TEST(test_client_last_frame_arrives_before_the_end),
        TEST(test_client_that_stays_after_the_end_is_closed_in_a_second),
        TEST(test_client_hang_up_is_distinguished_from_an_end_in_order),
        TEST(test_client_reset_counts_as_a_hang_up),
        TEST(test_client_hang_up_is_found_while_sending),
        TEST(test_client_is_checked_after_its_handshake),
        TEST(test_clients_are_checked_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
