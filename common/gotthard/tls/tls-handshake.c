/* SPDX-License-Identifier: ISC */
/*
 * A connection from its birth to its keys. The handshake is OpenSSL's; when it is done, what we
 * rely on is asserted, its object is freed and its two secrets are ours (tls.c). Must never send a
 * byte to one who offers no key.
 */
#include <openssl/err.h>
#include <string.h>

#include "gotthard/binder.h"
#include "gotthard/tlscontext.h"

#define KEY_BYTES_MAX (16ull << 30) /* own KeyUpdate after so much */

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
        gt_record_deinit(&tls->reading);
        gt_record_deinit(&tls->writing);
        gt_batch_deinit(&tls->batch);
        gt_wipe(tls, sizeof *tls);
        free(tls);
    }
    return NULL;
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

/* What a handshake that did not come to its end means. */
static int tls_judge(struct gt_tls *tls, int ssl_result)
{
    int error = SSL_get_error(tls->ssl, ssl_result);
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE)
        return GT_TLS_E_AGAIN;
    tls->is_refused = !tls->batch.recv_error && !tls->batch.is_eof && !is_no_tls();
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
    if (tls->has_secrets != (TLS_SECRET_OF_CLIENT | TLS_SECRET_OF_SERVER) ||
        SSL_has_pending(tls->ssl))
        return "the handshake left no keys";
    return NULL;
}

/* From OpenSSL's records to our own. */
static int tls_take_over(struct gt_tls *tls)
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

/* It came to its end, good or bad: what was needed for it only is forgotten. */
static void tls_forget(struct gt_tls *tls)
{
    gt_wipe(tls->psk, sizeof tls->psk);
    gt_wipe(tls->secrets, sizeof tls->secrets);
    forget_hello(tls);
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
    if (r == 0)
        r = tls_take_over(tls);
    if (r != GT_TLS_E_AGAIN)
        tls_forget(tls);
    if (r == 0)
        return 0; /* what is left goes out with the first bytes */
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

/* OpenSSL gives a server this secret with its answer, which it gives to nobody whose binder is
 * wrong. */
bool gt_tls_is_keyed(const struct gt_tls *tls)
{
    return tls->find && (tls->has_secrets & TLS_SECRET_OF_SERVER);
}

bool gt_tls_is_refused(const struct gt_tls *tls)
{
    return tls->is_refused;
}

const char *gt_tls_suite(const struct gt_tls *tls)
{
    return tls->suite ? tls->suite : "none yet";
}
