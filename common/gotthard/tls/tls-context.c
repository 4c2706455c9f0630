/* SPDX-License-Identifier: ISC */
/*
 * Configuration of OpenSSL and its callbacks. By default OpenSSL 3.0 would fall back to a
 * certificate, accept a lower version, resume by ticket, and answer an unknown identity with
 * another alert than a wrong key. All of that must never happen.
 */
#include "gotthard/tls/tls-context.h"

#include <openssl/err.h>
#include <string.h>

#include "gotthard/base/text.h"
#include "gotthard/crypto/crypto-start.h"

static bool use_libssl(void)
{
    SSL_CTX *context = SSL_CTX_new(TLS_method());
    SSL *ssl = context ? SSL_new(context) : NULL;

    SSL_free(ssl);
    SSL_CTX_free(context);
    return ssl;
}

__attribute__((constructor)) static void tls_init(void)
{
    gt_crypto_first_use(use_libssl);
}

/* --- the BIO ---------------------------------------------------------------------------------- */

static int tls_bio_read(BIO *bio, char *ret, int n)
{
    struct gt_tls *tls = BIO_get_data(bio);

    BIO_clear_retry_flags(bio);
    if (n <= 0 || tls->state == TLS_BROKEN)
        return -1;
    size_t n_read;
    int r = gt_iobuf_read(&tls->iobuf, ret, (size_t)n, &n_read);
    if (r == 0)
        return (int)n_read;
    if (r == GT_IOBUF_E_AGAIN)
        BIO_set_retry_read(bio);
    tls->is_out_of_memory |= r < 0;
    return r == GT_IOBUF_E_EOF ? 0 : -1;
}

static int tls_bio_write(BIO *bio, const char *data, int n)
{
    struct gt_tls *tls = BIO_get_data(bio);

    BIO_clear_retry_flags(bio);
    if (n <= 0)
        return 0;
    int r = gt_iobuf_put(&tls->iobuf, data, (size_t)n);
    if (r == GT_IOBUF_E_AGAIN)
        BIO_set_retry_write(bio);
    tls->is_out_of_memory |= r < 0;
    return r == 0 ? n : -1;
}

static long tls_bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
    const struct gt_tls *tls = BIO_get_data(bio);

    if (command == BIO_CTRL_EOF)
        return tls->iobuf.is_eof;
    return command == BIO_CTRL_FLUSH; /* a no-op: gt_tls_flush() sends many records at once */
}

static BIO_METHOD *tls_bio_method(void)
{
    BIO_METHOD *method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "gotthard");
    if (method) {
        BIO_meth_set_read(method, tls_bio_read);
        BIO_meth_set_write(method, tls_bio_write);
        BIO_meth_set_ctrl(method, tls_bio_ctrl);
    }
    return method;
}

/* --- callbacks from inside OpenSSL ------------------------------------------------------------ */

static SSL_SESSION *session_of_psk(SSL *ssl, const uint8_t psk[static GT_KEY_SIZE])
{
    /* The suite only determines the hash: both of our suites may be negotiated. */
    static const uint8_t suite[] = {0x13, 0x01};

    const SSL_CIPHER *cipher = SSL_CIPHER_find(ssl, suite);
    SSL_SESSION *session = SSL_SESSION_new();
    if (session && cipher && SSL_SESSION_set1_master_key(session, psk, GT_KEY_SIZE) &&
        SSL_SESSION_set_cipher(session, cipher) &&
        SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION))
        return session;
    SSL_SESSION_free(session);
    return NULL;
}

static int tls_on_psk_use(SSL *ssl, const EVP_MD *md, const unsigned char **ret_id, size_t *ret_n,
                          SSL_SESSION **ret)
{
    const struct gt_tls *tls = SSL_get_app_data(ssl);

    *ret = session_of_psk(ssl, tls->psk);
    *ret_id = tls->identity;
    *ret_n = tls->n_identity;
    return *ret != NULL;
}

static int tls_on_psk_find(SSL *ssl, const unsigned char *id, size_t n, SSL_SESSION **ret)
{
    struct gt_tls *tls = SSL_get_app_data(ssl);
    uint8_t psk[GT_KEY_SIZE];

    tls->is_psk_offered = true;
    bool is_known = n <= GT_TLS_IDENTITY_MAX && tls->find(tls->userdata, gt_span(id, n), psk);
    if (!is_known && gt_random(psk, sizeof(psk)))
        return 0;
    tls->n_identity = is_known ? n : 0;
    memcpy(tls->identity, id, tls->n_identity);
    *ret = session_of_psk(ssl, psk);
    gt_wipe(psk, sizeof(psk));
    return *ret != NULL;
}

static int tls_on_alpn(SSL *ssl, const unsigned char **ret, unsigned char *ret_n,
                       const unsigned char *in, unsigned n, void *userdata)
{
    const struct gt_tls_context *context = userdata;

    for (unsigned at = 0; at < n; at += 1u + in[at]) {
        if (at + 1u + in[at] > n)
            break;
        if (in[at] == context->alpn[0] && memcmp(in + at, context->alpn, 1u + in[at]) == 0) {
            *ret = in + at + 1;
            *ret_n = in[at];
            return SSL_TLSEXT_ERR_OK;
        }
    }
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* Gets the traffic secrets from the key log callback, the only interface of OpenSSL that has them.
 * A line is "<label> <client random, 64 hex digits> <secret, 64 hex digits>" (NSS key log format).
 */
static void tls_on_secret(const SSL *ssl, const char *line)
{
    static const char *const labels[2] = {"CLIENT_TRAFFIC_SECRET_0 ", "SERVER_TRAFFIC_SECRET_0 "};
    struct gt_tls *tls = SSL_get_app_data(ssl);

    for (unsigned i = 0; i < 2; i++) {
        size_t n = strlen(labels[i]), at = n + 64 + 1;

        if (strncmp(line, labels[i], n) == 0 && strlen(line) == at + 2 * GT_KEY_SIZE &&
            gt_text_unhex(line + at, tls->secrets[i], GT_KEY_SIZE) == 0)
            tls->has_secrets |= 1u << i;
    }
}

/* --- the context ------------------------------------------------------------------------------ */

/* A client's first suite is ChaCha20 if it prefers that, and then the server uses it whatever its
 * own order (SSL_OP_PRIORITIZE_CHACHA). Otherwise the server's order decides. */
static bool set_suites(struct gt_tls_context *context, enum gt_record_suite first)
{
    const char *suites = first == GT_RECORD_CHACHA20
                             ? "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256"
                             : "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256";

    return SSL_CTX_set_ciphersuites(context->ssl, suites);
}

static bool configure(struct gt_tls_context *context, enum gt_tls_role role)
{
    SSL_CTX *ssl = context->ssl;

    /* A system-wide openssl.cnf may set any of these options. */
    SSL_CTX_clear_options(ssl, SSL_OP_IGNORE_UNEXPECTED_EOF | SSL_OP_ALLOW_NO_DHE_KEX |
                                   SSL_OP_ENABLE_KTLS);
    SSL_CTX_set_options(ssl, SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION |
                                 SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
    SSL_CTX_set_keylog_callback(ssl, tls_on_secret);
    SSL_CTX_set_mode(ssl, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
    /* The trust store is empty, so that every certificate is rejected. */
    SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    if (role == GT_TLS_CLIENT) {
        SSL_CTX_set_psk_use_session_callback(ssl, tls_on_psk_use);
    } else {
        SSL_CTX_set_psk_find_session_callback(ssl, tls_on_psk_find);
        SSL_CTX_set_alpn_select_cb(ssl, tls_on_alpn, context);
    }
    return SSL_CTX_set_min_proto_version(ssl, TLS1_3_VERSION) &&
           SSL_CTX_set_max_proto_version(ssl, TLS1_3_VERSION) &&
           set_suites(context, GT_RECORD_AES128) && SSL_CTX_set1_groups_list(ssl, "X25519") &&
           SSL_CTX_set_num_tickets(ssl, 0) && SSL_CTX_set_max_early_data(ssl, 0) &&
           SSL_CTX_set_recv_max_early_data(ssl, 0) &&
           (role == GT_TLS_CLIENT
                ? SSL_CTX_set_alpn_protos(ssl, context->alpn, 1u + context->alpn[0]) == 0
                : SSL_CTX_set_session_id_context(ssl, context->alpn,
                                                 1)); /* arbitrary; required with SSL_VERIFY_PEER */
}

int gt_tls_context_new(enum gt_tls_role role, const char *alpn, struct gt_tls_context **ret)
{
    size_t n = strlen(alpn);

    if (n == 0 || n > GT_TLS_ALPN_MAX)
        return -EINVAL;
    struct gt_tls_context *context = calloc(1, sizeof(*context));
    if (!context)
        return -ENOMEM;
    context->alpn[0] = (uint8_t)n;
    memcpy(context->alpn + 1, alpn, n);
    ERR_clear_error();
    context->method = tls_bio_method();
    context->ssl = SSL_CTX_new(role == GT_TLS_CLIENT ? TLS_client_method() : TLS_server_method());
    if (!context->method || !context->ssl || !configure(context, role)) {
        gt_tls_context_free(context);
        return -ENOMEM;
    }
    *ret = context;
    return 0;
}

int gt_tls_context_prefer(struct gt_tls_context *context, enum gt_record_suite suite)
{
    ERR_clear_error();
    return set_suites(context, suite) ? 0 : -ENOMEM;
}

struct gt_tls_context *gt_tls_context_free(struct gt_tls_context *context)
{
    if (context) {
        SSL_CTX_free(context->ssl);
        BIO_meth_free(context->method);
        free(context);
    }
    return NULL;
}
