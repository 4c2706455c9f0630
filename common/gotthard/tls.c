/* SPDX-License-Identifier: ISC */
/*
 * A connection: the handshake and what is asserted after it, reading, writing, the own KeyUpdates,
 * and what went wrong in words. A cut connection is never its end.
 *
 * Between OpenSSL and the socket stands a struct gt_batch: SSL_write never meets a full socket,
 * because gt_tls_write looks for room before it encrypts. So a write is all or nothing, and none
 * is ever repeated.
 */
#include <openssl/err.h>
#include <string.h>

#include "gotthard/binder.h"
#include "gotthard/tlscontext.h"

#define WRITE_MAX     (16 * 1024)
#define WRITE_SPARE   512 /* of a record around its bytes, and for a KeyUpdate before it */
#define KEY_BYTES_MAX (16ull << 30) /* own KeyUpdate after so much ... */
#define KEY_S_MAX     3600          /* ... or so long */

static int tls_new(struct gt_tls_context *context, int fd, struct gt_tls **ret)
{
    struct gt_tls *tls = calloc(1, sizeof *tls);
    if (!tls)
        return -ENOMEM;
    ERR_clear_error();
    gt_batch_init(&tls->batch, fd);
    tls->context = context;
    tls->why = "";
    tls->key_bytes_max = KEY_BYTES_MAX;
    tls->ssl = SSL_new(context->ssl);
    BIO *bio = BIO_new(context->method);
    if (!tls->ssl || !bio) {
        BIO_free(bio);
        gt_tls_free(tls);
        return -ENOMEM;
    }
    BIO_set_data(bio, tls);
    BIO_set_init(bio, 1);
    SSL_set_bio(tls->ssl, bio, bio);
    SSL_set_app_data(tls->ssl, tls);
    *ret = tls;
    return 0;
}

int gt_tls_new_client(struct gt_tls_context *context, int fd, struct gt_span identity,
                      const uint8_t psk[static GT_KEY_SIZE], struct gt_tls **ret)
{
    if (identity.n == 0 || identity.n > GT_TLS_IDENTITY_MAX)
        return -EINVAL;
    struct gt_tls *tls;
    int r = tls_new(context, fd, &tls);
    if (r)
        return r;
    memcpy(tls->identity, identity.data, identity.n);
    tls->n_identity = identity.n;
    memcpy(tls->psk, psk, GT_KEY_SIZE);
    SSL_set_connect_state(tls->ssl);
    *ret = tls;
    return 0;
}

int gt_tls_new_server(struct gt_tls_context *context, int fd, gt_tls_psk_fn psk, void *userdata,
                      struct gt_tls **ret)
{
    struct gt_tls *tls;
    int r = tls_new(context, fd, &tls);
    if (r)
        return r;
    tls->find = psk;
    tls->userdata = userdata;
    SSL_set_accept_state(tls->ssl);
    *ret = tls;
    return 0;
}

int gt_tls_set_previous(struct gt_tls *tls, gt_tls_psk_fn previous)
{
    tls->hello = malloc(GT_BINDER_HELLO_MAX);
    if (!tls->hello)
        return -ENOMEM;
    tls->previous = previous;
    return 0;
}

static void forget_hello(struct gt_tls *tls)
{
    free(tls->hello);
    tls->hello = NULL;
    tls->n_hello = 0;
}

struct gt_tls *gt_tls_free(struct gt_tls *tls)
{
    if (tls) {
        forget_hello(tls);
        SSL_free(tls->ssl);
        gt_batch_deinit(&tls->batch);
        gt_wipe(tls->psk, sizeof tls->psk);
        free(tls);
    }
    return NULL;
}

static int tls_break(struct gt_tls *tls, const char *why)
{
    if (tls->state != TLS_BROKEN) {
        tls->state = TLS_BROKEN;
        tls->why = why;
    }
    return GT_TLS_E_BROKEN;
}

/* A few words on what went wrong, all of static storage. */
static const char *tls_words(const struct gt_tls *tls)
{
    unsigned long error = ERR_peek_last_error();
    int reason = ERR_GET_REASON(error);
    if (tls->batch.recv_error)
        return strerrordesc_np(tls->batch.recv_error);
    if (tls->batch.is_eof)
        return "cut off without a goodbye";
    if (ERR_GET_LIB(error) == ERR_LIB_SSL && reason > SSL_AD_REASON_OFFSET)
        return SSL_alert_desc_string_long(reason - SSL_AD_REASON_OFFSET);
    const char *text = ERR_reason_error_string(error);
    return text ? text : "TLS failed";
}

/* Does the peer speak anything like TLS? */
static bool is_no_tls(void)
{
    unsigned long error = ERR_peek_last_error();
    int reason = ERR_GET_REASON(error);
    return ERR_GET_LIB(error) == ERR_LIB_SSL &&
           (reason == SSL_R_WRONG_VERSION_NUMBER || reason == SSL_R_HTTP_REQUEST ||
            reason == SSL_R_HTTPS_PROXY_REQUEST);
}

/* What a call that did not succeed means. */
static int tls_judge(struct gt_tls *tls, int ssl_result)
{
    int error = SSL_get_error(tls->ssl, ssl_result);
    if (tls->state == TLS_BROKEN)
        return GT_TLS_E_BROKEN;
    if (error == SSL_ERROR_WANT_READ)
        return GT_TLS_E_AGAIN;
    if (error == SSL_ERROR_WANT_WRITE) {
        tls->is_stuck = true;
        return GT_TLS_E_AGAIN;
    }
    if (error == SSL_ERROR_ZERO_RETURN) {
        tls->state = TLS_CLOSED;
        return GT_TLS_E_CLOSED;
    }
    tls->is_refused =
        tls->state == TLS_HANDSHAKE && !tls->batch.recv_error && !tls->batch.is_eof && !is_no_tls();
    return tls_break(tls, is_no_tls() ? "no TLS is spoken there" : tls_words(tls));
}

/* What we rely on; NULL when all of it holds. */
static const char *tls_objection(const struct gt_tls *tls)
{
    const SSL_CIPHER *cipher = SSL_get_current_cipher(tls->ssl);
    uint16_t suite = cipher ? SSL_CIPHER_get_protocol_id(cipher) : 0;
    const uint8_t *alpn = NULL;
    unsigned n_alpn = 0;
    SSL_get0_alpn_selected(tls->ssl, &alpn, &n_alpn);
    if (SSL_version(tls->ssl) != TLS1_3_VERSION)
        return "not TLS 1.3";
    if (!SSL_session_reused(tls->ssl) || tls->n_identity == 0)
        return "the key was not used";
    if (SSL_get0_peer_certificate(tls->ssl))
        return "a certificate was shown";
    if (SSL_get_negotiated_group(tls->ssl) != NID_X25519)
        return "no X25519 in the handshake";
    if (suite != 0x1301 && suite != 0x1303)
        return "not one of our cipher suites";
    if (!gt_span_equals(gt_span(alpn, n_alpn),
                        gt_span(tls->context->alpn + 1, tls->context->alpn[0])))
        return "another protocol (ALPN)";
    return NULL;
}

int gt_tls_handshake(struct gt_tls *tls)
{
    if (tls->state != TLS_HANDSHAKE)
        return tls->state == TLS_BROKEN ? GT_TLS_E_BROKEN : 0;
    ERR_clear_error();
    int done = SSL_do_handshake(tls->ssl);
    int r = done == 1 ? 0 : tls_judge(tls, done);
    const char *objection = r == 0 ? tls_objection(tls) : NULL;
    if (objection) {
        tls->is_refused = true;
        r = tls_break(tls, objection);
    }
    if (r == 0) {
        tls->state = TLS_OPEN;
        tls->key_since = tls_now_s();
    }
    if (r != GT_TLS_E_AGAIN) {
        gt_wipe(tls->psk, sizeof tls->psk);
        forget_hello(tls);
    }
    if (tls->find && !tls->is_asked)
        return r; /* never a byte, not even an alert, to one who offers no key */
    /* An alert goes out too, as far as the socket takes it. */
    int flushed = gt_tls_flush(tls);
    return r == GT_TLS_E_AGAIN && flushed == GT_TLS_E_BROKEN && !gt_batch_has_input(&tls->batch)
               ? tls_break(tls, strerrordesc_np(tls->batch.send_error))
               : r;
}

struct gt_span gt_tls_identity(const struct gt_tls *tls)
{
    return gt_span(tls->identity, tls->n_identity);
}

int gt_tls_read(struct gt_tls *tls, void *ret, size_t n, size_t *ret_n)
{
    if (tls->state != TLS_OPEN)
        return tls->state == TLS_CLOSED ? GT_TLS_E_CLOSED : GT_TLS_E_BROKEN;
    tls->is_stuck = false;
    ERR_clear_error();
    size_t n_read;
    int done = SSL_read_ex(tls->ssl, ret, n, &n_read);
    if (!done)
        return tls_judge(tls, done);
    *ret_n = n_read;
    return 0;
}

bool gt_tls_has_pending(const struct gt_tls *tls)
{
    return tls->state == TLS_OPEN && !tls->is_stuck &&
           (gt_batch_has_input(&tls->batch) || SSL_pending(tls->ssl) > 0);
}

/* OpenSSL never changes its key by itself; this only marks it due, SSL_write sends it. */
static void refresh_key(struct gt_tls *tls, size_t n)
{
    tls->key_bytes += n;
    if (tls->key_bytes < tls->key_bytes_max && tls_now_s() - tls->key_since < KEY_S_MAX)
        return;
    if (SSL_key_update(tls->ssl, SSL_KEY_UPDATE_NOT_REQUESTED)) {
        tls->key_bytes = n;
        tls->key_since = tls_now_s();
    }
}

bool gt_tls_has_room(struct gt_tls *tls, size_t n)
{
    return gt_batch_room(&tls->batch) >= n + WRITE_SPARE;
}

int gt_tls_write(struct gt_tls *tls, const void *data, size_t n)
{
    if ((tls->state != TLS_OPEN && tls->state != TLS_CLOSED) || n > WRITE_MAX)
        return tls_break(tls, "written to before or after its time");
    if (n == 0)
        return 0;
    if (!gt_tls_has_room(tls, n)) {
        if (gt_tls_flush(tls) == GT_TLS_E_BROKEN)
            return GT_TLS_E_BROKEN;
        if (!gt_tls_has_room(tls, n))
            return GT_TLS_E_AGAIN;
    }
    refresh_key(tls, n);
    ERR_clear_error();
    size_t n_written;
    int done = SSL_write_ex(tls->ssl, data, n, &n_written);
    return done ? 0 : tls_break(tls, tls_words(tls));
}

int gt_tls_flush(struct gt_tls *tls)
{
    tls->is_stuck = false;
    switch (gt_batch_flush(&tls->batch)) {
    case 0: return 0;
    case GT_BATCH_E_AGAIN: return GT_TLS_E_AGAIN;
    default:
        /* Reading goes on: the peer's last words may be in the socket. */
        if (tls->why[0] == 0)
            tls->why = strerrordesc_np(tls->batch.send_error);
        return GT_TLS_E_BROKEN;
    }
}

bool gt_tls_wants_write(const struct gt_tls *tls)
{
    return gt_batch_has_output(&tls->batch);
}

void gt_tls_close(struct gt_tls *tls)
{
    ERR_clear_error();
    if (tls->state == TLS_OPEN || tls->state == TLS_CLOSED)
        SSL_shutdown(tls->ssl);
    if (gt_tls_flush(tls))
        return; /* best effort */
}

const char *gt_tls_why(const struct gt_tls *tls)
{
    return tls->why;
}

bool gt_tls_is_refused(const struct gt_tls *tls)
{
    return tls->is_refused;
}

bool gt_tls_is_hung_up(const struct gt_tls *tls)
{
    return tls->state == TLS_BROKEN && tls->batch.is_eof && !tls->batch.recv_error;
}

const char *gt_tls_suite(const struct gt_tls *tls)
{
    return SSL_get_cipher_name(tls->ssl);
}

void gt_tls_set_key_limit(struct gt_tls *tls, uint64_t n_bytes)
{
    tls->key_bytes_max = n_bytes;
}
