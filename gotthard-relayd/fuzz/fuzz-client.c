/* SPDX-License-Identifier: ISC */
/*
 * A client that sends hostile bytes on its control connection, before or after HELLO. Whatever it
 * sends: all that it receives are well-formed frames, its host gets requests only between HELLO and
 * the end, on_end is called once for a client that was up, and nothing remains after it.
 *
 * Input: byte 0 selects whether a HELLO comes first (bit 0) and whether the peer reads (bit 1: only
 * at the end), byte 1 is the size of the TLS records in steps of 4 (0: all at once), the others are
 * sent.
 */
#include "control/client.h"

#include <stdio.h>

#include "gotthard/base/log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const uint8_t key[GT_KEY_SIZE] = "the relay's key of every client!";

static struct {
    struct ev_loop *loop;
    struct quota quota;
    struct gt_tls_context *server, *client;
    struct client_host host;
    struct gt_framed_connection peer;
    bool is_up;
    unsigned n_ends;
} env;

#define check(condition) check_at(condition, #condition, __LINE__)
static void check_at(bool is_true, const char *condition, int line)
{
    if (is_true)
        return;
    fprintf(stderr, "line %d: %s\n", line, condition);
    abort();
}

/* Answers each request with a frame of its own, so that the send queue is in use. */
static void on_frame(void *userdata, struct client *client, const struct gt_control_frame *frame)
{
    env.is_up = true;
    check(client->state == CLIENT_READY && env.n_ends == 0);
    client_send_code(client, GT_CONTROL_ERROR, frame->rid, GT_CODE_NO_SESSION);
    if (frame->type == GT_CONTROL_BYE)
        client_close(client, "BYE received");
    client_charge(client, 10);
}

static void on_end(void *userdata, struct client *client)
{
    env.n_ends++;
}

static void set_up(void)
{
    struct client_limits limits = {.handshake_ms = 60000,
                                   .hello_ms = 60000,
                                   .heartbeat_ms = 60000,
                                   .heartbeat_timeout_ms = 180000,
                                   .without_session_ms = 60000,
                                   .lifetime_ms = 60000,
                                   .n_frames = 100,
                                   .n_per_identity = 4,
                                   .n_streams = 8};

    if (!env.loop) {
        gt_log_open("fuzz", GT_LOG_ERROR);
        env.loop = ev_loop_new(EVFLAG_AUTO);
        quota_init(&env.quota,
                   &(struct quota_limits){
                       .n_preauths = 9, .n_handshakes = 9, .n_of_identity = 9, .n_per_source = 9},
                   9);
        check(!gt_tls_context_new(GT_TLS_SERVER, GT_CONTROL_ALPN, &env.server) &&
              !gt_tls_context_new(GT_TLS_CLIENT, GT_CONTROL_ALPN, &env.client));
    }
    client_host_init(&env.host, env.loop);
    client_host_set_limits(&env.host, &limits);
    env.host.tls = env.server;
    env.host.on_frame = on_frame;
    env.host.on_end = on_end;
    env.is_up = false;
    env.n_ends = 0;
}

static void turn(void)
{
    client_host_flush(&env.host);
    client_host_reap(&env.host);
    ev_run(env.loop, EVRUN_NOWAIT);
}

static void connect_peer(void)
{
    static const uint8_t source[QUOTA_SOURCE];
    struct proof proof = {.identity = "g1:o:alice"};
    struct quota_charge charge;
    struct gt_addr addr;
    struct gt_tls *tls;
    int fds[2], r;

    check(!gt_sock_pair(fds) && !gt_addr_parse("192.0.2.1", 1, &addr));
    memcpy(proof.psk, key, GT_KEY_SIZE);
    check(!quota_admit(&env.quota, source, fds[0], CHARGE_PROVED, &charge));
    check(!gt_tls_new_client(env.client, fds[1], gt_span_text("g1:o:alice"), key, &tls));
    gt_framed_connection_init(&env.peer);
    gt_framed_connection_attach(&env.peer, fds[1], tls);
    client_new(&env.host, fds[0], &addr, gt_clock_ms(), &charge, &proof);
    while ((r = gt_tls_handshake(tls)) == GT_TLS_E_AGAIN)
        turn();
    check(!r);
}

static void send_hello(void)
{
    struct gt_control_frame frame = {.type = GT_CONTROL_HELLO};

    frame.hello.version_min = frame.hello.version_max = GT_CONTROL_VERSION;
    check(!gt_framed_connection_queue(&env.peer, &frame, 0) &&
          !gt_framed_connection_flush(&env.peer));
    turn();
}

/* Reads what the relay has sent. Returns false after the end of the connection. */
static bool receive(void)
{
    struct gt_control_frame frame;

    for (;;) {
        int r = gt_framed_connection_decode(&env.peer, &frame);

        check(r == 0 || r == GT_FRAMED_CONNECTION_E_AGAIN);
        if (r == 0) {
            env.is_up |= frame.type == GT_CONTROL_WELCOME;
            continue;
        }
        r = gt_framed_connection_read(&env.peer);
        if (r == GT_FRAMED_CONNECTION_E_AGAIN) /* once more: the first may be of a short read */
            r = gt_framed_connection_read(&env.peer);
        if (r)
            return r == GT_FRAMED_CONNECTION_E_AGAIN;
    }
}

static void run(struct gt_span bytes, size_t n_record, bool is_reading)
{
    for (size_t at = 0; at < bytes.n; at += n_record) {
        size_t n = GT_MIN(n_record, bytes.n - at);

        if (gt_tls_write(env.peer.tls, bytes.data + at, n) || gt_tls_flush(env.peer.tls))
            break;
        turn();
        if (is_reading && !receive())
            break;
    }
    turn();
    receive();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct quota_counts counts;

    if (n < 2 || n > 8192)
        return 0;
    set_up();
    connect_peer();
    if (data[0] & 1)
        send_hello();
    else
        check(!gt_framed_connection_flush(&env.peer));
    run(gt_span(data + 2, n - 2), data[1] ? 4u * data[1] : n, !(data[0] & 2));
    gt_framed_connection_deinit(&env.peer);
    client_host_deinit(&env.host);
    check(env.n_ends == env.is_up && env.host.n_clients == 0);
    check(!env.host.identities.by_name);
    quota_count(&env.quota, &counts);
    check(counts.n_fds == 0 && counts.n_preauths == 0);
    return 0;
}
