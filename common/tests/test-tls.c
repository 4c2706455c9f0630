/* SPDX-License-Identifier: ISC */
/*
 * tls.c over socketpairs: two own ends against each other, and each against a plain OpenSSL peer
 * that does what ours must reject. The library's recv() and send() are replaced, so that they can
 * transfer less than requested.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants these before it */
#include <cmocka.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>

#include "gotthard/tls/tls-context.h"

#define ALPN "gotthard-t/1"

static const uint8_t right[GT_KEY_SIZE] = "the right key of 32 bytes, alice";
static const uint8_t wrong[GT_KEY_SIZE] = "another key of 32 bytes, mallory";

/* --- recv and send ---------------------------------------------------------------------------- */

static bool is_dribbling;

ssize_t recv(int fd, void *data, size_t n, int flags)
{
    if (is_dribbling && rand() % 8 == 0) {
        errno = rand() % 2 ? EINTR : EAGAIN;
        return -1;
    }
    return syscall(SYS_recvfrom, fd, data, is_dribbling ? 1 : n, flags, NULL, NULL);
}

ssize_t send(int fd, const void *data, size_t n, int flags)
{
    assert_true(flags & MSG_NOSIGNAL);
    if (is_dribbling && rand() % 8 == 0) {
        errno = rand() % 2 ? EINTR : EAGAIN;
        return -1;
    }
    size_t most = is_dribbling ? 1 + (size_t)rand() % 100 : n;
    return syscall(SYS_sendto, fd, data, GT_MIN(n, most), flags, NULL, 0);
}

/* --- memory ----------------------------------------------------------------------------------- */

static bool is_memory_short;
static unsigned n_until_failure; /* allocations while memory is short; the last one of them fails */

void *__real_malloc(size_t n);
void *__real_realloc(void *memory, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_realloc(void *memory, size_t n);

static bool allocation_fails(void)
{
    return is_memory_short && n_until_failure && --n_until_failure == 0;
}

void *__wrap_malloc(size_t n)
{
    return allocation_fails() ? NULL : __real_malloc(n);
}

void *__wrap_realloc(void *memory, size_t n)
{
    return allocation_fails() ? NULL : __real_realloc(memory, n);
}

/* --- two own ends ----------------------------------------------------------------------------- */

struct ends {
    int fd[2]; /* client, server */
    struct gt_tls_context *context[2];
    struct gt_tls *tls[2];
};

static bool find_psk(void *userdata, struct gt_span identity, uint8_t ret[static GT_KEY_SIZE])
{
    memcpy(ret, right, GT_KEY_SIZE);
    return gt_span_equals(identity, gt_span_text("g1:o:alice"));
}

static void ends_init_fds(struct ends *e, int client_fd, int server_fd, const char *identity,
                          const uint8_t *psk, const char *client_alpn)
{
    e->fd[0] = client_fd;
    e->fd[1] = server_fd;
    assert_int_equal(gt_tls_context_new(GT_TLS_CLIENT, client_alpn, &e->context[0]), 0);
    assert_int_equal(gt_tls_context_new(GT_TLS_SERVER, ALPN, &e->context[1]), 0);
    assert_int_equal(
        gt_tls_new_client(e->context[0], client_fd, gt_span_text(identity), psk, &e->tls[0]), 0);
    assert_int_equal(gt_tls_new_server(e->context[1], server_fd, find_psk, NULL, &e->tls[1]), 0);
}

static void pair(int ret[2])
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ret), 0);
}

static void ends_init(struct ends *e, const char *identity, const uint8_t *psk,
                      const char *client_alpn)
{
    int fds[2];

    pair(fds);
    ends_init_fds(e, fds[0], fds[1], identity, psk, client_alpn);
}

static void ends_deinit(struct ends *e)
{
    for (int i = 0; i < 2; i++) {
        gt_tls_free(e->tls[i]);
        gt_tls_context_free(e->context[i]);
        gt_close(&e->fd[i]);
    }
    assert_int_equal(gt_iobuf_n_held(), 0);
    gt_iobuf_trim();
}

/* Steps both handshakes until neither returns E_AGAIN. */
static void handshake_both(struct ends *e, int ret[2])
{
    ret[0] = ret[1] = GT_TLS_E_AGAIN;
    for (int turn = 0; turn < 100000 && (ret[0] == GT_TLS_E_AGAIN || ret[1] == GT_TLS_E_AGAIN);
         turn++) {
        for (int i = 0; i < 2; i++) {
            if (ret[i] == GT_TLS_E_AGAIN)
                ret[i] = gt_tls_handshake(e->tls[i]);
            if (ret[i] == 0 && gt_tls_flush(e->tls[i]) == GT_TLS_E_BROKEN)
                break;
        }
    }
}

static void ends_up(struct ends *e)
{
    int r[2];

    ends_init(e, "g1:o:alice", right, ALPN);
    handshake_both(e, r);
    if (r[0] || r[1])
        fail_msg("client %d %s, server %d %s", r[0], gt_tls_why(e->tls[0]), r[1],
                 gt_tls_why(e->tls[1]));
}

/* Reads until the result is not E_AGAIN, and returns it. */
static int read_through(struct gt_tls *tls, void *ret, size_t n, size_t *ret_n)
{
    int r = GT_TLS_E_AGAIN;

    for (int turn = 0; turn < 1000 && r == GT_TLS_E_AGAIN; turn++)
        r = gt_tls_read(tls, ret, n, ret_n);
    return r;
}

/* --- bytes ------------------------------------------------------------------------------------ */

struct flow {
    uint64_t n, written, read; /* total, and so far */
    uint64_t seed;
    bool is_in_place; /* reads without a copy */
};

static uint8_t pattern(const struct flow *f, uint64_t at)
{
    return (uint8_t)((at + f->seed) * 0x9e3779b97f4a7c15ull >> 56);
}

static void flow_write(struct flow *f, struct gt_tls *tls)
{
    uint8_t data[16384];
    int r = 0;

    while (r == 0 && f->written < f->n) {
        size_t n = (size_t)GT_MIN(f->n - f->written, 1 + (size_t)rand() % sizeof(data));

        for (size_t i = 0; i < n; i++)
            data[i] = pattern(f, f->written + i);
        r = gt_tls_write(tls, data, n);
        f->written += r == 0 ? n : 0;
    }
    assert_in_range(r, 0, GT_TLS_E_AGAIN);
    assert_in_range(gt_tls_flush(tls), 0, GT_TLS_E_AGAIN);
}

static void flow_check(struct flow *f, const uint8_t *data, size_t n)
{
    assert_true(n > 0);
    for (size_t i = 0; i < n; i++)
        if (data[i] != pattern(f, f->read + i))
            fail_msg("wrong byte at %lu", (unsigned long)(f->read + i));
    f->read += n;
}

/* Reads the bytes of one call on the socket. Contents are checked after all records were opened. */
static int flow_open(struct flow *f, struct gt_tls *tls)
{
    static struct gt_span spans[GT_IOBUF_SIZE / 32];
    size_t n = 0;
    int r;

    while ((r = gt_tls_open(tls, &spans[n])) == 0)
        n++;
    assert_int_equal(r, GT_TLS_E_AGAIN);
    for (size_t i = 0; i < n; i++)
        flow_check(f, spans[i].data, spans[i].n);
    return gt_tls_fill(tls, GT_IOBUF_SIZE);
}

static int flow_copy(struct flow *f, struct gt_tls *tls)
{
    static uint8_t data[GT_IOBUF_SIZE];
    size_t n;

    int r = gt_tls_read(tls, data, sizeof(data), &n);
    if (r == 0)
        flow_check(f, data, n);
    return r;
}

static void flow_read(struct flow *f, struct gt_tls *tls)
{
    int r = 0;

    while (r == 0)
        r = f->is_in_place ? flow_open(f, tls) : flow_copy(f, tls);
    assert_int_equal(r, GT_TLS_E_AGAIN);
    assert_false(gt_tls_has_pending(tls));
}

static void flows(struct ends *e, uint64_t n)
{
    struct flow f[2] = {{.n = n, .seed = 1}, {.n = n, .seed = 1000, .is_in_place = true}};

    while (f[0].read < n || f[1].read < n)
        for (int i = 0; i < 2; i++) {
            flow_write(&f[i], e->tls[i]);
            flow_read(&f[1 - i], e->tls[i]);
        }
    assert_int_equal(gt_iobuf_n_held(), 0);
}

static void test_tls_carries_64_mib_in_both_directions(void **state)
{
    struct ends e;

    ends_up(&e);
    assert_true(gt_span_equals(gt_tls_identity(e.tls[1]), gt_span_text("g1:o:alice")));
    assert_string_equal(gt_tls_suite(e.tls[0]), gt_tls_suite(e.tls[1]));
    for (int i = 0; i < 2; i++)
        gt_tls_set_key_limit(e.tls[i], 20 << 20); /* three key updates during the transfer */
    flows(&e, 64 << 20);
    ends_deinit(&e);
}

static void test_tls_carries_data_byte_by_byte(void **state)
{
    struct ends e;

    is_dribbling = true;
    ends_up(&e);
    flows(&e, 100000);
    is_dribbling = false;
    ends_deinit(&e);
}

/* One packet per record, until the socket accepts the initial amount at once. */
static void test_records_grow_on_a_fast_path(void **state)
{
    struct ends e;
    uint8_t data[16384] = {0};
    size_t n;

    ends_up(&e);
    assert_int_equal(gt_tls_record_size(e.tls[0]), GT_TLS_SEGMENT);
    for (int i = 0; i < 3; i++)
        assert_int_equal(gt_tls_write(e.tls[0], data, sizeof(data)), 0);
    assert_int_equal(gt_tls_record_size(e.tls[0]), GT_TLS_SEGMENT);
    assert_int_equal(gt_tls_flush(e.tls[0]), 0);
    assert_int_equal(gt_tls_record_size(e.tls[0]), sizeof(data));
    for (int i = 0; i < 3; i++)
        assert_int_equal(read_through(e.tls[1], data, sizeof(data), &n), 0);
    ends_deinit(&e);
}

static void test_write_stops_at_a_full_socket(void **state)
{
    struct ends e;
    uint8_t data[16384] = {0};
    size_t n_written = 0, n_read = 0, n;

    ends_up(&e);
    while (gt_tls_write(e.tls[0], data, sizeof(data)) == 0)
        n_written += sizeof(data);
    assert_true(gt_tls_wants_write(e.tls[0]));
    assert_int_equal(gt_tls_flush(e.tls[0]), GT_TLS_E_AGAIN);
    assert_int_equal(gt_tls_record_size(e.tls[0]), sizeof(data)); /* it stays fast */
    assert_int_equal(gt_iobuf_n_held(), 1);
    while (n_read < n_written) {
        if (gt_tls_read(e.tls[1], data, sizeof(data), &n) == 0)
            n_read += n;
        else
            assert_in_range(gt_tls_flush(e.tls[0]), 0, GT_TLS_E_AGAIN);
    }
    assert_int_equal(n_read, n_written);
    assert_false(gt_tls_wants_write(e.tls[0]));
    assert_int_equal(gt_tls_write(e.tls[0], data, 0), 0);
    ends_deinit(&e);
}

/* --- ends ------------------------------------------------------------------------------------- */

static void test_close_notify_closes(void **state)
{
    struct ends e;
    uint8_t data[100];
    size_t n;

    ends_up(&e);
    assert_int_equal(gt_tls_write(e.tls[0], "last", 4), 0);
    gt_tls_close(e.tls[0]);
    gt_close(&e.fd[0]);
    assert_int_equal(read_through(e.tls[1], data, sizeof(data), &n), 0);
    assert_int_equal(n, 4);
    assert_int_equal(read_through(e.tls[1], data, sizeof(data), &n), GT_TLS_E_CLOSED);
    assert_int_equal(read_through(e.tls[1], data, sizeof(data), &n), GT_TLS_E_CLOSED);
    ends_deinit(&e);
}

static void test_close_without_close_notify_breaks(void **state)
{
    struct ends e;
    uint8_t data[100];
    size_t n;

    ends_up(&e);
    assert_int_equal(gt_tls_write(e.tls[0], "last", 4), 0);
    assert_int_equal(gt_tls_flush(e.tls[0]), 0);
    gt_close(&e.fd[0]);
    assert_int_equal(read_through(e.tls[1], data, sizeof(data), &n), 0);
    assert_int_equal(read_through(e.tls[1], data, sizeof(data), &n), GT_TLS_E_BROKEN);
    assert_string_equal(gt_tls_why(e.tls[1]), "connection closed without close_notify");
    assert_false(gt_tls_is_refused(e.tls[1]));
    assert_int_equal(gt_tls_write(e.tls[1], "x", 1), GT_TLS_E_BROKEN);
    ends_deinit(&e);
}

static void test_changed_bit_breaks(void **state)
{
    struct ends e;
    uint8_t data[200];
    size_t n;

    ends_up(&e);
    assert_int_equal(gt_tls_write(e.tls[0], "hello", 5), 0);
    assert_int_equal(gt_tls_flush(e.tls[0]), 0);
    ssize_t got = recv(e.fd[1], data, sizeof(data), 0);
    assert_true(got > 10);
    data[got - 1] ^= 1;
    assert_int_equal(send(e.fd[0], data, (size_t)got, MSG_NOSIGNAL), got);
    assert_int_equal(read_through(e.tls[1], data, sizeof(data), &n), GT_TLS_E_BROKEN);
    ends_deinit(&e);
}

static void test_write_to_a_closed_peer_breaks(void **state)
{
    struct ends e;

    ends_up(&e);
    gt_close(&e.fd[1]);
    assert_int_equal(gt_tls_write(e.tls[0], "x", 1), 0);
    assert_int_equal(gt_tls_flush(e.tls[0]), GT_TLS_E_BROKEN);
    assert_false(gt_tls_wants_write(e.tls[0]));
    ends_deinit(&e);
}

/* --- rejections between own ends -------------------------------------------------------------- */

/* Returns the bytes that the server sends to a client. */
static size_t response_to(const char *identity, const uint8_t *psk, uint8_t ret[static 4096])
{
    struct ends e;
    int to_client[2], to_server[2];
    size_t n = 0;

    pair(to_client);
    pair(to_server);
    ends_init_fds(&e, to_client[0], to_server[0], identity, psk, ALPN);
    int r = GT_TLS_E_AGAIN;
    for (int turn = 0; turn < 100 && r == GT_TLS_E_AGAIN; turn++) {
        uint8_t data[4096];

        assert_int_equal(gt_tls_handshake(e.tls[0]), GT_TLS_E_AGAIN);
        ssize_t got = recv(to_client[1], data, sizeof(data), 0);
        if (got > 0)
            assert_int_equal(send(to_server[1], data, (size_t)got, MSG_NOSIGNAL), got);
        r = gt_tls_handshake(e.tls[1]);
        got = recv(to_server[1], ret + n, 4096 - n, 0);
        n += got > 0 ? (size_t)got : 0;
    }
    assert_int_equal(r, GT_TLS_E_BROKEN);
    assert_true(gt_tls_is_refused(e.tls[1]));
    assert_int_equal(send(to_client[1], ret, n, MSG_NOSIGNAL), (ssize_t)n);
    for (int turn = 0; turn < 3 && r != GT_TLS_E_AGAIN; turn++)
        r = gt_tls_handshake(e.tls[0]);
    assert_true(gt_tls_is_refused(e.tls[0]));
    close(to_client[1]);
    close(to_server[1]);
    ends_deinit(&e);
    return n;
}

static void test_unknown_identity_is_answered_like_a_wrong_key(void **state)
{
    static uint8_t to_wrong[4096], to_unknown[4096];
    size_t n_wrong = response_to("g1:o:alice", wrong, to_wrong);
    size_t n_unknown = response_to("g1:o:mallory", right, to_unknown);

    assert_in_range(n_wrong, 7, 4096);
    assert_int_equal(n_wrong, n_unknown);
    assert_memory_equal(to_wrong, to_unknown, n_wrong);
    assert_int_equal(to_wrong[0], 21); /* a plaintext alert */
}

static void test_handshake_rejects_another_alpn(void **state)
{
    struct ends e;
    int r[2];

    ends_init(&e, "g1:o:alice", right, "gotthard-t/2");
    handshake_both(&e, r);
    assert_int_equal(r[0], GT_TLS_E_BROKEN);
    assert_int_equal(r[1], GT_TLS_E_BROKEN);
    assert_true(gt_tls_is_refused(e.tls[0]) && gt_tls_is_refused(e.tls[1]));
    ends_deinit(&e);
}

static void test_disconnect_in_handshake_is_not_a_rejection(void **state)
{
    struct ends e;

    ends_init(&e, "g1:o:alice", right, ALPN);
    assert_int_equal(gt_tls_handshake(e.tls[0]), GT_TLS_E_AGAIN);
    gt_close(&e.fd[1]);
    int r = GT_TLS_E_AGAIN;
    for (int turn = 0; turn < 3 && r == GT_TLS_E_AGAIN; turn++)
        r = gt_tls_handshake(e.tls[0]);
    assert_int_equal(r, GT_TLS_E_BROKEN);
    assert_false(gt_tls_is_refused(e.tls[0]));
    ends_deinit(&e);
}

/* The allocation @at of a side fails. Returns false if it has fewer. */
static bool handshake_without_memory(int side, unsigned at)
{
    int r[2] = {GT_TLS_E_AGAIN, GT_TLS_E_AGAIN};
    struct ends e;

    ends_init(&e, "g1:o:alice", right, ALPN);
    n_until_failure = at;
    for (int turn = 0; turn < 10; turn++) {
        for (int i = 0; i < 2; i++) {
            is_memory_short = i == side;
            if (r[i] == GT_TLS_E_AGAIN)
                r[i] = gt_tls_handshake(e.tls[i]);
            is_memory_short = false;
            if (r[i] == 0 && gt_tls_flush(e.tls[i]) == GT_TLS_E_BROKEN)
                r[i] = GT_TLS_E_BROKEN;
            if (r[i] == GT_TLS_E_BROKEN) { /* as its owner ends it */
                gt_tls_close(e.tls[i]);
                shutdown(e.fd[i], SHUT_RDWR);
            }
        }
    }
    bool has_failed = n_until_failure == 0;
    assert_true(r[side] == 0 || (has_failed && r[side] == GT_TLS_E_BROKEN));
    if (r[0] == 0 && r[1] == 0) {
        char data[1];
        size_t n;

        assert_int_equal(gt_tls_write(e.tls[0], "x", 1), 0);
        assert_int_equal(gt_tls_flush(e.tls[0]), 0);
        assert_int_equal(read_through(e.tls[1], data, 1, &n), 0);
    }
    assert_false(gt_tls_is_refused(e.tls[0]));
    assert_false(gt_tls_is_refused(e.tls[side]));
    ends_deinit(&e);
    return has_failed;
}

/* Returns false if the creation of a client needs fewer than @at allocations. */
static bool new_without_memory(struct ends *e, unsigned at)
{
    struct gt_tls *tls = NULL;

    n_until_failure = at;
    is_memory_short = true;
    int r = gt_tls_new_client(e->context[0], e->fd[0], gt_span_text("g1:o:alice"), right, &tls);
    is_memory_short = false;
    assert_true(r == 0 || (r == -ENOMEM && n_until_failure == 0));
    if (r == 0)
        assert_int_equal(gt_tls_handshake(tls), GT_TLS_E_AGAIN);
    gt_tls_free(tls);
    return n_until_failure == 0;
}

static void test_new_without_memory_fails(void **state)
{
    struct ends e;
    unsigned at = 1;

    ends_init(&e, "g1:o:alice", right, ALPN);
    while (new_without_memory(&e, at))
        at++;
    assert_true(at > 10);
    ends_deinit(&e);
}

/* A side that has no memory for a handshake has not rejected the key of its peer. */
static void test_lack_of_memory_is_not_a_rejection(void **state)
{
    for (int side = 0; side < 2; side++) {
        unsigned at = 1;

        while (handshake_without_memory(side, at))
            at++;
        assert_true(at > 100);
    }
}

static void test_invalid_arguments_are_rejected(void **state)
{
    struct gt_tls_context *context = NULL;
    struct gt_tls *tls = NULL;
    char text[300];

    memset(text, 'x', sizeof(text));
    text[65] = 0;
    assert_int_equal(gt_tls_context_new(GT_TLS_CLIENT, "", &context), -EINVAL);
    assert_int_equal(gt_tls_context_new(GT_TLS_CLIENT, text, &context), -EINVAL);
    assert_null(context);
    assert_int_equal(gt_tls_context_new(GT_TLS_CLIENT, text + 1, &context), 0);
    text[65] = 'x';
    assert_int_equal(gt_tls_new_client(context, -1, gt_span("", 0), right, &tls), -EINVAL);
    assert_int_equal(gt_tls_new_client(context, -1, gt_span(text, 257), right, &tls), -EINVAL);
    assert_int_equal(gt_tls_new_client(context, -1, gt_span(text, 256), right, &tls), 0);
    gt_tls_free(tls);
    gt_tls_context_free(context);
    assert_null(gt_tls_free(NULL));
    assert_null(gt_tls_context_free(NULL));
}

/* --- against a plain OpenSSL peer ------------------------------------------------------------- */

struct raw {
    bool is_server;
    SSL_CTX *context;
    SSL *ssl;
    unsigned n_updates;
};

static const char *raw_identity = "g1:o:alice";
static size_t raw_identity_n = 10;

static int raw_on_psk(SSL *ssl, const EVP_MD *md, const unsigned char **id, size_t *n,
                      SSL_SESSION **ret)
{
    bool is_384 = md && EVP_MD_get_size(md) == 48;
    const uint8_t suite[] = {0x13, is_384 ? 0x02 : 0x01};

    *ret = SSL_SESSION_new();
    SSL_SESSION_set1_master_key(*ret, right, sizeof(right));
    SSL_SESSION_set_cipher(*ret, SSL_CIPHER_find(ssl, suite));
    SSL_SESSION_set_protocol_version(*ret, TLS1_3_VERSION);
    *id = (const unsigned char *)raw_identity;
    *n = raw_identity_n;
    return 1;
}

static void raw_on_message(int is_written, int version, int type, const void *data, size_t n,
                           SSL *ssl, void *userdata)
{
    struct raw *raw = userdata;

    if (!is_written && type == SSL3_RT_HANDSHAKE && *(const uint8_t *)data == SSL3_MT_KEY_UPDATE)
        raw->n_updates++;
}

static void raw_init(struct raw *raw, bool is_server, int fd)
{
    raw->is_server = is_server;
    raw->n_updates = 0;
    raw->context = SSL_CTX_new(is_server ? TLS_server_method() : TLS_client_method());
    if (!is_server)
        SSL_CTX_set_psk_use_session_callback(raw->context, raw_on_psk);
    raw->ssl = SSL_new(raw->context);
    SSL_set_fd(raw->ssl, fd);
    if (!is_server)
        SSL_set_alpn_protos(raw->ssl, (const uint8_t *)"\x0c" ALPN, 13);
    SSL_set_msg_callback(raw->ssl, raw_on_message);
    SSL_set_msg_callback_arg(raw->ssl, raw);
}

static void raw_deinit(struct raw *raw)
{
    SSL_free(raw->ssl);
    SSL_CTX_free(raw->context);
}

/* Steps the handshakes of a plain peer and of an own end until the latter's result is known. */
static int raw_handshake(struct raw *raw, struct gt_tls *tls)
{
    int r = GT_TLS_E_AGAIN;

    for (int turn = 0; turn < 100 && (r == GT_TLS_E_AGAIN || turn < 10); turn++) {
        if (raw->is_server)
            SSL_accept(raw->ssl);
        else
            SSL_connect(raw->ssl);
        if (r == GT_TLS_E_AGAIN)
            r = gt_tls_handshake(tls);
    }
    return r;
}

static void give_certificate(SSL *ssl)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x = X509_new();

    X509_set_version(x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
    X509_gmtime_adj(X509_getm_notBefore(x), -60);
    X509_gmtime_adj(X509_getm_notAfter(x), 3600);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC,
                               (const uint8_t *)"relay", -1, -1, 0);
    X509_set_issuer_name(x, X509_get_subject_name(x));
    X509_set_pubkey(x, key);
    assert_true(X509_sign(x, key, EVP_sha256()) > 0);
    assert_int_equal(SSL_use_certificate(ssl, x), 1);
    assert_int_equal(SSL_use_PrivateKey(ssl, key), 1);
    X509_free(x);
    EVP_PKEY_free(key);
}

static int raw_server_on_alpn(SSL *ssl, const unsigned char **ret, unsigned char *ret_n,
                              const unsigned char *in, unsigned n, void *userdata)
{
    *ret = in + 1;
    *ret_n = in[0];
    return SSL_TLSEXT_ERR_OK;
}

static void test_server_with_a_certificate_is_rejected(void **state)
{
    struct ends e;
    struct raw raw;

    ends_init(&e, "g1:o:alice", right, ALPN);
    raw_init(&raw, true, e.fd[1]);
    SSL_CTX_set_alpn_select_cb(raw.context, raw_server_on_alpn, NULL);
    give_certificate(raw.ssl);
    assert_int_equal(raw_handshake(&raw, e.tls[0]), GT_TLS_E_BROKEN);
    assert_true(gt_tls_is_refused(e.tls[0]));
    assert_false(SSL_is_init_finished(raw.ssl));
    raw_deinit(&raw);
    ends_deinit(&e);
}

/* Replaces psk_dhe_ke by psk_ke in a ClientHello. */
static void only_psk_ke(int from, int to)
{
    uint8_t data[4096];
    ssize_t n = recv(from, data, sizeof(data), 0);

    assert_true(n > 100);
    uint8_t *at = memmem(data, (size_t)n, "\x00\x2d\x00\x02\x01\x01", 6);
    assert_non_null(at);
    at[5] = 0;
    assert_int_equal(send(to, data, (size_t)n, MSG_NOSIGNAL), n);
}

static void test_client_without_dhe_is_rejected(void **state)
{
    struct ends e;
    int r = GT_TLS_E_AGAIN, detour[2];

    ends_init(&e, "g1:o:alice", right, ALPN);
    pair(detour);
    assert_int_equal(gt_tls_handshake(e.tls[0]), GT_TLS_E_AGAIN);
    only_psk_ke(e.fd[1], detour[0]);
    struct gt_tls *server;
    assert_int_equal(gt_tls_new_server(e.context[1], detour[1], find_psk, NULL, &server), 0);
    for (int turn = 0; turn < 3 && r == GT_TLS_E_AGAIN; turn++)
        r = gt_tls_handshake(server);
    assert_int_equal(r, GT_TLS_E_BROKEN);
    assert_true(gt_tls_is_refused(server));
    gt_tls_free(server);
    close(detour[0]);
    close(detour[1]);
    ends_deinit(&e);
}

enum defect {
    PLAIN,
    TLS_1_2,
    SHA_384,
    P_256,
    NO_ALPN,
    NO_PSK,
    CERTIFICATE,
    LONG_IDENTITY,
    NUL_IDENTITY,
    CHACHA_FIRST,
    RETRY,
};

static void make_invalid(struct raw *raw, enum defect defect)
{
    raw_identity = "g1:o:alice";
    raw_identity_n = 10;
    switch (defect) {
    case PLAIN: break;
    case TLS_1_2: SSL_set_max_proto_version(raw->ssl, TLS1_2_VERSION); break;
    case SHA_384: SSL_set_ciphersuites(raw->ssl, "TLS_AES_256_GCM_SHA384"); break;
    case P_256: SSL_set1_groups_list(raw->ssl, "P-256"); break;
    case NO_ALPN: SSL_set_alpn_protos(raw->ssl, NULL, 0); break;
    case NO_PSK: SSL_set_psk_use_session_callback(raw->ssl, NULL); break;
    case CERTIFICATE:
        SSL_set_psk_use_session_callback(raw->ssl, NULL);
        give_certificate(raw->ssl);
        break;
    case LONG_IDENTITY:
        raw_identity = "g1:o:aliceg1:o:aliceg1:o:aliceg1:o:aliceg1:o:aliceg1:o:aliceg1:o:alice"
                       "g1:o:aliceg1:o:aliceg1:o:aliceg1:o:aliceg1:o:aliceg1:o:aliceg1:o:alice"
                       "g1:o:aliceg1:o:aliceg1:o:aliceg1:o:aliceg1:o:aliceg1:o:aliceg1:o:alice"
                       "g1:o:aliceg1:o:aliceg1:o:aliceg1:o:aliceg1:o:aliceg1:o:aliceg1:o:alice";
        raw_identity_n = 257; /* PSK_MAX_IDENTITY_LEN and our limit is 256 */
        break;
    case NUL_IDENTITY:
        raw_identity = "g1:o:alice\0x";
        raw_identity_n = 12;
        break;
    case RETRY: SSL_set1_groups_list(raw->ssl, "P-256:X25519"); break;
    case CHACHA_FIRST:
        SSL_set_ciphersuites(raw->ssl, "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256");
        break;
    }
}

static void test_invalid_client_hellos_are_rejected(void **state)
{
    static const struct {
        enum defect defect;
        bool is_good;
    } cases[] = {
        {PLAIN, true},         {TLS_1_2, false},     {SHA_384, false},     {P_256, false},
        {NO_ALPN, false},      {NO_PSK, false},      {CERTIFICATE, false}, {LONG_IDENTITY, false},
        {NUL_IDENTITY, false}, {CHACHA_FIRST, true}, {RETRY, true},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        struct ends e;
        struct raw raw;

        ends_init(&e, "g1:o:alice", right, ALPN);
        raw_init(&raw, false, e.fd[0]);
        make_invalid(&raw, cases[i].defect);
        int r = raw_handshake(&raw, e.tls[1]);
        if (r != (cases[i].is_good ? 0 : GT_TLS_E_BROKEN))
            fail_msg("case %zu: %d %s", i, r, gt_tls_why(e.tls[1]));
        assert_int_equal(gt_tls_is_refused(e.tls[1]), !cases[i].is_good);
        if (cases[i].defect == CHACHA_FIRST)
            assert_string_equal(gt_tls_suite(e.tls[1]), "TLS_CHACHA20_POLY1305_SHA256");
        raw_deinit(&raw);
        ends_deinit(&e);
    }
}

/* Sets the preferences of both ends and returns the suite that they use. */
static const char *suite_of(enum gt_record_suite client, enum gt_record_suite server)
{
    struct ends e;
    int r[2];

    ends_init(&e, "g1:o:alice", right, ALPN);
    for (int i = 0; i < 2; i++)
        gt_tls_free(e.tls[i]);
    assert_int_equal(gt_tls_context_prefer(e.context[0], client), 0);
    assert_int_equal(gt_tls_context_prefer(e.context[1], server), 0);
    assert_int_equal(
        gt_tls_new_client(e.context[0], e.fd[0], gt_span_text("g1:o:alice"), right, &e.tls[0]), 0);
    assert_int_equal(gt_tls_new_server(e.context[1], e.fd[1], find_psk, NULL, &e.tls[1]), 0);
    handshake_both(&e, r);
    assert_int_equal(r[0] | r[1], 0);
    assert_string_equal(gt_tls_suite(e.tls[0]), gt_tls_suite(e.tls[1]));
    const char *suite = gt_tls_suite(e.tls[0]);
    ends_deinit(&e);
    return suite;
}

static void test_chacha20_is_used_if_either_end_prefers_it(void **state)
{
    static const char *const aes = "TLS_AES_128_GCM_SHA256", *const chacha20 =
                                                                 "TLS_CHACHA20_POLY1305_SHA256";

    assert_string_equal(suite_of(GT_RECORD_AES128, GT_RECORD_AES128), aes);
    assert_string_equal(suite_of(GT_RECORD_CHACHA20, GT_RECORD_AES128), chacha20);
    assert_string_equal(suite_of(GT_RECORD_AES128, GT_RECORD_CHACHA20), chacha20);
    assert_string_equal(suite_of(GT_RECORD_CHACHA20, GT_RECORD_CHACHA20), chacha20);
}

static void raw_up(struct ends *e, struct raw *raw)
{
    ends_init(e, "g1:o:alice", right, ALPN);
    raw_init(raw, false, e->fd[0]);
    make_invalid(raw, PLAIN);
    assert_int_equal(raw_handshake(raw, e->tls[1]), 0);
}

static void test_flood_of_key_updates_breaks(void **state)
{
    for (int n_updates = 1; n_updates <= 200; n_updates += 199) {
        struct ends e;
        struct raw raw;
        uint8_t data[10];
        size_t n;

        raw_up(&e, &raw);
        for (int i = 0; i < n_updates; i++) {
            assert_int_equal(SSL_key_update(raw.ssl, SSL_KEY_UPDATE_REQUESTED), 1);
            assert_int_equal(SSL_do_handshake(raw.ssl), 1);
        }
        assert_int_equal(SSL_write(raw.ssl, "x", 1), 1);
        int r = read_through(e.tls[1], data, sizeof(data), &n);
        assert_int_equal(r, n_updates == 1 ? 0 : GT_TLS_E_BROKEN);
        if (r)
            assert_string_equal(gt_tls_why(e.tls[1]), "too many key updates");
        raw_deinit(&raw);
        ends_deinit(&e);
    }
}

static void test_own_key_is_updated_at_its_limit(void **state)
{
    struct ends e;
    struct raw raw;
    uint8_t data[16384] = {0};

    raw_up(&e, &raw);
    gt_tls_set_key_limit(e.tls[1], 10 * sizeof(data));
    for (int i = 0; i < 25; i++) {
        assert_int_equal(gt_tls_write(e.tls[1], data, sizeof(data)), 0);
        assert_int_equal(gt_tls_flush(e.tls[1]), 0);
        assert_int_equal(SSL_read(raw.ssl, data, sizeof(data)), sizeof(data));
    }
    assert_int_equal(raw.n_updates, 2);
    raw_deinit(&raw);
    ends_deinit(&e);
}

/* The peer requests an update of our key after its own, and reads our records with the new one. */
static void test_own_key_is_updated_on_request(void **state)
{
    struct ends e;
    struct raw raw;
    uint8_t data[10];
    size_t n;

    raw_up(&e, &raw);
    for (int i = 1; i <= 3; i++) {
        assert_int_equal(SSL_key_update(raw.ssl, SSL_KEY_UPDATE_REQUESTED), 1);
        assert_int_equal(SSL_write(raw.ssl, "x", 1), 1);
        assert_int_equal(read_through(e.tls[1], data, sizeof(data), &n), 0);
        assert_int_equal(gt_tls_write(e.tls[1], "yes", 3), 0);
        assert_int_equal(gt_tls_flush(e.tls[1]), 0);
        assert_int_equal(SSL_read(raw.ssl, data, sizeof(data)), 3);
        assert_int_equal(raw.n_updates, i);
    }
    raw_deinit(&raw);
    ends_deinit(&e);
}

/* close_notify of OpenSSL, and ours at OpenSSL. */
static void test_close_notify_interoperates_with_openssl(void **state)
{
    struct ends e;
    struct raw raw;
    uint8_t data[10];
    size_t n;

    raw_up(&e, &raw);
    assert_int_equal(SSL_shutdown(raw.ssl), 0);
    assert_int_equal(read_through(e.tls[1], data, sizeof(data), &n), GT_TLS_E_CLOSED);
    gt_tls_close(e.tls[1]);
    assert_int_equal(SSL_shutdown(raw.ssl), 1);
    raw_deinit(&raw);
    ends_deinit(&e);
}

/* A peer with the key may still not send arbitrary records. */
static void test_invalid_records_break(void **state)
{
    static const struct {
        enum gt_record_type type;
        size_t n;
        const char *content;
        unsigned n_times;
        const char *why; /* NULL: accepted */
    } cases[] = {
        {GT_RECORD_DATA, 0, "", 32, NULL},
        {GT_RECORD_DATA, 0, "", 33, "too many empty records"},
        {GT_RECORD_HANDSHAKE, 5, "\x18\0\0\1\0", 1,
         "bad record mac"}, /* the next record has the old key */
        {GT_RECORD_HANDSHAKE, 5, "\x18\0\0\1\2", 1, "unexpected handshake message"},
        {GT_RECORD_HANDSHAKE, 6, "\x18\0\0\1\0\0", 1, "unexpected handshake message"},
        {GT_RECORD_HANDSHAKE, 4, "\x18\0\0\1", 1, "unexpected handshake message"},
        {GT_RECORD_HANDSHAKE, 5, "\x04\0\0\1\0", 1, "unexpected handshake message"},
        {GT_RECORD_ALERT, 1, "\2", 1, "malformed alert"},
        {GT_RECORD_ALERT, 2, "\2\x28", 1, "handshake failure"},
        {(enum gt_record_type)20, 1, "\1", 1, "unknown record type"},
        {(enum gt_record_type)99, 1, "x", 1, "unknown record type"},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        struct ends e;
        uint8_t record[100];
        size_t n;

        ends_up(&e);
        const struct gt_span content = {(const uint8_t *)cases[i].content, cases[i].n};
        for (unsigned k = 0; k < cases[i].n_times; k++) {
            assert_int_equal(gt_record_seal(&e.tls[0]->writing, cases[i].type, &content, 1, record),
                             0);
            size_t size = cases[i].n + GT_RECORD_OVERHEAD;
            assert_int_equal(send(e.fd[0], record, size, MSG_NOSIGNAL), size);
        }
        assert_int_equal(gt_tls_write(e.tls[0], "on", 2), 0);
        assert_int_equal(gt_tls_flush(e.tls[0]), 0);
        int r = read_through(e.tls[1], record, sizeof(record), &n);
        assert_int_equal(r, cases[i].why ? GT_TLS_E_BROKEN : 0);
        if (cases[i].why)
            assert_string_equal(gt_tls_why(e.tls[1]), cases[i].why);
        ends_deinit(&e);
    }
}

/* Small reads return all of a record and of the next one. */
static void test_record_is_read_in_pieces(void **state)
{
    struct ends e;
    uint8_t data[16384], got[16384];
    size_t n;

    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i * 13 + i / 256);
    ends_up(&e);
    for (int k = 0; k < 3; k++)
        assert_int_equal(gt_tls_write(e.tls[0], data, sizeof(data) - (size_t)k), 0);
    assert_int_equal(gt_tls_flush(e.tls[0]), 0);
    for (int k = 0; k < 3; k++)
        for (size_t at = 0; at < sizeof(data) - (size_t)k; at += n) {
            assert_int_equal(read_through(e.tls[1], got,
                                          GT_MIN(1 + at % 777, sizeof(data) - (size_t)k - at), &n),
                             0);
            assert_memory_equal(got, data + at, n);
        }
    assert_false(gt_tls_has_pending(e.tls[1]));
    ends_deinit(&e);
}

static void test_server_sends_no_session_ticket(void **state)
{
    struct ends e;
    struct raw raw;
    uint8_t data[10];

    raw_up(&e, &raw);
    assert_int_equal(SSL_read(raw.ssl, data, sizeof(data)), -1);
    assert_int_equal(SSL_get_error(raw.ssl, -1), SSL_ERROR_WANT_READ);
    assert_true(SSL_session_reused(raw.ssl));
    assert_false(SSL_SESSION_has_ticket(SSL_get_session(raw.ssl)));
    raw_deinit(&raw);
    ends_deinit(&e);
}

int main(void)
{
    unsigned seed = (unsigned)time(NULL);

    printf("seed %u\n", seed);
    srand(seed);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tls_carries_64_mib_in_both_directions),
        cmocka_unit_test(test_tls_carries_data_byte_by_byte),
        cmocka_unit_test(test_records_grow_on_a_fast_path),
        cmocka_unit_test(test_write_stops_at_a_full_socket),
        cmocka_unit_test(test_close_notify_closes),
        cmocka_unit_test(test_close_without_close_notify_breaks),
        cmocka_unit_test(test_changed_bit_breaks),
        cmocka_unit_test(test_write_to_a_closed_peer_breaks),
        cmocka_unit_test(test_unknown_identity_is_answered_like_a_wrong_key),
        cmocka_unit_test(test_handshake_rejects_another_alpn),
        cmocka_unit_test(test_disconnect_in_handshake_is_not_a_rejection),
        cmocka_unit_test(test_new_without_memory_fails),
        cmocka_unit_test(test_lack_of_memory_is_not_a_rejection),
        cmocka_unit_test(test_invalid_arguments_are_rejected),
        cmocka_unit_test(test_server_with_a_certificate_is_rejected),
        cmocka_unit_test(test_client_without_dhe_is_rejected),
        cmocka_unit_test(test_invalid_client_hellos_are_rejected),
        cmocka_unit_test(test_chacha20_is_used_if_either_end_prefers_it),
        cmocka_unit_test(test_flood_of_key_updates_breaks),
        cmocka_unit_test(test_own_key_is_updated_at_its_limit),
        cmocka_unit_test(test_own_key_is_updated_on_request),
        cmocka_unit_test(test_close_notify_interoperates_with_openssl),
        cmocka_unit_test(test_invalid_records_break),
        cmocka_unit_test(test_record_is_read_in_pieces),
        cmocka_unit_test(test_server_sends_no_session_ticket),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
