/* SPDX-License-Identifier: ISC */
/*
 * Creation and handshake of a connection. OpenSSL does the handshake. Then its result is checked,
 * its object is freed, and its two traffic secrets are used for our records (tls.c). Must never
 * send a byte to a client that does not offer a PSK.
 */
#include <openssl/err.h>
#include <string.h>

#include "gotthard/crypto/crypto-start.h"
#include "gotthard/tls/tls-context.h"

#define KEY_BYTES_MAX (16ull << 30) /* bytes sent until our KeyUpdate */

/* @set_state makes it a client or a server. In OpenSSL 3.5 that allocates, and returns nothing. */
static int tls_new(struct gt_tls_context *context, int fd, void (*set_state)(SSL *),
                   struct gt_tls **ret)
{
    unsigned n_failed = gt_crypto_n_failed_allocations();
    struct gt_tls *tls = calloc(1, sizeof(*tls));

    if (!tls)
        return -ENOMEM;
    ERR_clear_error();
    gt_iobuf_init(&tls->iobuf, fd);
    tls->context = context;
    tls->why = "";
    tls->key_bytes_max = KEY_BYTES_MAX;
    tls->ssl = SSL_new(context->ssl);
    BIO *bio = BIO_new(context->method);
    if (!tls->ssl || !bio || SSL_set_app_data(tls->ssl, tls) != 1) {
        BIO_free(bio);
        gt_tls_free(tls);
        return -ENOMEM;
    }
    BIO_set_data(bio, tls);
    BIO_set_init(bio, 1);
    SSL_set_bio(tls->ssl, bio, bio);
    set_state(tls->ssl);
    if (gt_crypto_n_failed_allocations() != n_failed) {
        gt_tls_free(tls);
        return -ENOMEM;
    }
    *ret = tls;
    return 0;
}

int gt_tls_new_client(struct gt_tls_context *context, int fd, struct gt_span identity,
                      const uint8_t psk[static GT_KEY_SIZE], struct gt_tls **ret)
{
    if (identity.n == 0 || identity.n > GT_TLS_IDENTITY_MAX)
        return -EINVAL;
    struct gt_tls *tls;
    int r = tls_new(context, fd, SSL_set_connect_state, &tls);
    if (r)
        return r;
    memcpy(tls->identity, identity.data, identity.n);
    tls->n_identity = identity.n;
    memcpy(tls->psk, psk, GT_KEY_SIZE);
    *ret = tls;
    return 0;
}

int gt_tls_new_server(struct gt_tls_context *context, int fd, gt_tls_psk_fn psk, void *userdata,
                      struct gt_tls **ret)
{
    struct gt_tls *tls;

    int r = tls_new(context, fd, SSL_set_accept_state, &tls);
    if (r)
        return r;
    tls->find = psk;
    tls->userdata = userdata;
    *ret = tls;
    return 0;
}

struct gt_tls *gt_tls_free(struct gt_tls *tls)
{
    if (tls) {
        SSL_free(tls->ssl);
        gt_record_deinit(&tls->reading);
        gt_record_deinit(&tls->writing);
        gt_iobuf_deinit(&tls->iobuf);
        gt_wipe(tls, sizeof(*tls));
        free(tls);
    }
    return NULL;
}

/* Returns the reason of a failed handshake, a static text. */
static const char *tls_error_text(const struct gt_tls *tls)
{
    unsigned long error = ERR_peek_last_error();

    int reason = ERR_GET_REASON(error);
    if (tls->iobuf.recv_error)
        return strerror(tls->iobuf.recv_error);
    if (tls->iobuf.is_eof)
        return "connection closed without close_notify";
    if (ERR_GET_LIB(error) == ERR_LIB_SSL && reason > SSL_AD_REASON_OFFSET)
        return SSL_alert_desc_string_long(reason - SSL_AD_REASON_OFFSET);
    const char *text = ERR_reason_error_string(error);
    return text ? text : "TLS failed";
}

/* Returns true if the peer answered with something other than TLS. */
static bool is_not_tls(void)
{
    unsigned long error = ERR_peek_last_error();
    int reason = ERR_GET_REASON(error);

    return ERR_GET_LIB(error) == ERR_LIB_SSL &&
           (reason == SSL_R_WRONG_VERSION_NUMBER || reason == SSL_R_HTTP_REQUEST ||
            reason == SSL_R_HTTPS_PROXY_REQUEST);
}

/* Evaluates a handshake that is not complete. Returns E_AGAIN or E_BROKEN. */
static int tls_check_progress(struct gt_tls *tls, int ssl_result)
{
    int error = SSL_get_error(tls->ssl, ssl_result);

    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE)
        return GT_TLS_E_AGAIN;
    tls->is_refused = !tls->iobuf.recv_error && !tls->iobuf.is_eof && !is_not_tls();
    return tls_break(tls, is_not_tls() ? "the peer does not use TLS" : tls_error_text(tls));
}

/* Checks the result of the handshake. Returns NULL, or the reason to reject it. */
static const char *tls_check_result(const struct gt_tls *tls)
{
    const SSL_CIPHER *cipher = SSL_get_current_cipher(tls->ssl);
    uint16_t suite = cipher ? SSL_CIPHER_get_protocol_id(cipher) : 0;
    const uint8_t *alpn = NULL;
    unsigned n_alpn = 0;

    SSL_get0_alpn_selected(tls->ssl, &alpn, &n_alpn);
    if (SSL_version(tls->ssl) != TLS1_3_VERSION)
        return "not TLS 1.3";
    if (!SSL_session_reused(tls->ssl) || tls->n_identity == 0)
        return "the peer did not use the PSK";
    if (SSL_get0_peer_certificate(tls->ssl))
        return "the peer presented a certificate";
    if (SSL_get_negotiated_group(tls->ssl) != NID_X25519)
        return "key exchange is not X25519";
    if (suite != 0x1301 && suite != 0x1303)
        return "cipher suite not permitted";
    if (!gt_span_equals(gt_span(alpn, n_alpn),
                        gt_span(tls->context->alpn + 1, tls->context->alpn[0])))
        return "application protocol (ALPN) differs";
    if (tls->has_secrets != (TLS_SECRET_OF_CLIENT | TLS_SECRET_OF_SERVER) ||
        SSL_has_pending(tls->ssl))
        return "traffic secrets missing";
    return NULL;
}

/* Replaces the record layer of OpenSSL by our own. */
static int tls_start_records(struct gt_tls *tls)
{
    const SSL_CIPHER *cipher = SSL_get_current_cipher(tls->ssl);
    enum gt_record_suite suite = SSL_CIPHER_get_protocol_id(cipher);
    bool is_server = tls->find != NULL;

    int r = gt_record_init(&tls->writing, suite, tls->secrets[is_server], true);
    if (r == 0)
        r = gt_record_init(&tls->reading, suite, tls->secrets[!is_server], false);
    if (r)
        return tls_break(tls, "out of memory");
    tls->suite = SSL_CIPHER_get_name(cipher);
    SSL_free(tls->ssl);
    tls->ssl = NULL;
    tls->state = TLS_OPEN;
    tls->key_since = tls_now_s();
    return 0;
}

/* Frees and wipes the data that only the handshake needs. */
static void tls_end_handshake(struct gt_tls *tls)
{
    gt_wipe(tls->psk, sizeof(tls->psk));
    gt_wipe(tls->secrets, sizeof(tls->secrets));
}

/* Returns 0, E_AGAIN or E_BROKEN. Without memory this side has failed, and the peer has not
 * rejected anything. */
static int tls_continue_handshake(struct gt_tls *tls)
{
    unsigned n_failed = gt_crypto_n_failed_allocations();

    ERR_clear_error();
    int done = SSL_do_handshake(tls->ssl);
    tls->is_out_of_memory |= gt_crypto_n_failed_allocations() != n_failed;
    if (tls->is_out_of_memory)
        return tls_break(tls, "out of memory");
    return done == 1 ? 0 : tls_check_progress(tls, done);
}

int gt_tls_handshake(struct gt_tls *tls)
{
    if (tls->state != TLS_HANDSHAKE)
        return tls->state == TLS_BROKEN ? GT_TLS_E_BROKEN : 0;
    int r = tls_continue_handshake(tls);
    const char *error = r == 0 ? tls_check_result(tls) : NULL;
    if (error) {
        tls->is_refused = true;
        r = tls_break(tls, error);
    }
    if (r == 0)
        r = tls_start_records(tls);
    if (r != GT_TLS_E_AGAIN)
        tls_end_handshake(tls);
    if (r == 0)
        return 0; /* unsent messages go out with the first data */
    if (tls->find && !tls->is_psk_offered)
        return r; /* a ClientHello without a PSK gets no response, not even an alert */
    /* Send the alert as well, as far as the socket accepts it. */
    int flushed = gt_tls_flush(tls);
    return r == GT_TLS_E_AGAIN && flushed == GT_TLS_E_BROKEN && !gt_iobuf_has_input(&tls->iobuf)
               ? tls_break(tls, strerror(tls->iobuf.send_error))
               : r;
}

struct gt_span gt_tls_identity(const struct gt_tls *tls)
{
    return gt_span(tls->identity, tls->n_identity);
}

bool gt_tls_is_refused(const struct gt_tls *tls)
{
    return tls->is_refused;
}

const char *gt_tls_suite(const struct gt_tls *tls)
{
    return tls->suite ? tls->suite : "none";
}
