/* SPDX-License-Identifier: ISC */
/*
 * The one file that knows SSL_*. What OpenSSL 3.0 would do by itself and must not: fall back to a
 * certificate, take a lower version, resume by ticket, answer an unknown identity with another
 * alert than a wrong key, treat a cut connection as its end, serve KeyUpdates without limit.
 *
 * Between OpenSSL and the socket stands a struct gt_batch: SSL_write never meets a full socket,
 * because gt_tls_write looks for room before it encrypts. So a write is all or nothing, and none
 * is ever repeated.
 */
#include "gotthard/tls.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <string.h>
#include <sys/auxv.h>
#include <time.h>

#include "gotthard/binder.h"

#define WRITE_MAX     (16 * 1024)
#define WRITE_SPARE   512 /* of a record around its bytes, and for a KeyUpdate before it */
#define IDENTITY_MAX  256
#define ALPN_MAX      64
#define KEY_BYTES_MAX (16ull << 30) /* own KeyUpdate after so much ... */
#define KEY_S_MAX     3600          /* ... or so long */
#define UPDATES_MAX   8             /* inbound, per second */

struct gt_tls_context {
    SSL_CTX *ssl;
    BIO_METHOD *method;
    uint8_t alpn[1 + ALPN_MAX]; /* length and name, as in the extension */
};

enum tls_state {
    TLS_HANDSHAKE,
    TLS_OPEN,
    TLS_CLOSED, /* by the peer's close_notify; writing is still possible */
    TLS_BROKEN,
};

struct gt_tls {
    SSL *ssl;
    enum tls_state state;
    bool is_refused; /* broken by an alert or a failed check, before it was open */
    bool is_stuck;   /* the last read could not go on before a flush */
    const char *why;
    struct gt_batch batch;
    const struct gt_tls_context *context;

    gt_tls_psk_fn find;     /* server */
    gt_tls_psk_fn previous; /* server: another key of the same identity, or NULL */
    uint8_t *hello;         /* owned; the ClientHello, kept while ->previous may be asked */
    size_t n_hello;
    void *userdata;
    uint8_t identity[IDENTITY_MAX];
    size_t n_identity;
    bool is_asked;            /* server: a key was asked for, whether it is known or not */
    uint8_t psk[GT_KEY_SIZE]; /* client, wiped after the handshake */

    uint64_t key_bytes, key_bytes_max; /* written with the present key, and at most */
    time_t key_since;
    time_t update_second; /* of CLOCK_MONOTONIC: when the updates were counted */
    unsigned n_updates;
};

static time_t now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return now.tv_sec;
}

/* --- the BIO ---------------------------------------------------------------------------------- */

static int tls_bio_read(BIO *bio, char *ret, int n)
{
    struct gt_tls *tls = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (n <= 0 || tls->state == TLS_BROKEN)
        return -1;
    size_t taken;
    int r = gt_batch_take(&tls->batch, ret, (size_t)n, &taken);
    if (r == 0)
        return (int)taken;
    if (r == GT_BATCH_E_AGAIN)
        BIO_set_retry_read(bio);
    return r == GT_BATCH_E_EOF ? 0 : -1;
}

static int tls_bio_write(BIO *bio, const char *data, int n)
{
    struct gt_tls *tls = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (n <= 0)
        return 0;
    int r = gt_batch_put(&tls->batch, data, (size_t)n);
    if (r == GT_BATCH_E_AGAIN)
        BIO_set_retry_write(bio);
    return r == 0 ? n : -1;
}

static long tls_bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
    const struct gt_tls *tls = BIO_get_data(bio);
    if (command == BIO_CTRL_EOF)
        return tls->batch.is_eof;
    return command == BIO_CTRL_FLUSH; /* gt_tls_flush does it, once for many records */
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
    /* The suite stands for its hash only: either of ours may be chosen. */
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

/* The key the client means: the previous one only if its binder was made with that. */
static bool tls_find(const struct gt_tls *tls, struct gt_span id, uint8_t ret[static GT_KEY_SIZE])
{
    struct gt_span hello = gt_span(tls->hello, tls->n_hello);
    if (tls->previous && tls->previous(tls->userdata, id, ret) && gt_binder_fits(hello, ret))
        return true;
    return tls->find(tls->userdata, id, ret);
}

static int tls_on_psk_find(SSL *ssl, const unsigned char *id, size_t n, SSL_SESSION **ret)
{
    struct gt_tls *tls = SSL_get_app_data(ssl);
    uint8_t psk[GT_KEY_SIZE];
    tls->is_asked = true;
    bool is_known = n <= IDENTITY_MAX && tls_find(tls, gt_span(id, n), psk);
    if (!is_known && gt_random(psk, sizeof psk))
        return 0;
    tls->n_identity = is_known ? n : 0;
    memcpy(tls->identity, id, tls->n_identity);
    *ret = session_of_psk(ssl, psk);
    gt_wipe(psk, sizeof psk);
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

/* The first handshake message is the ClientHello; a second one would be another's business. */
static void keep_hello(struct gt_tls *tls, const void *data, size_t n)
{
    bool is_kept = tls->n_hello == 0 && n <= GT_BINDER_HELLO_MAX;
    if (is_kept)
        memcpy(tls->hello, data, n);
    tls->n_hello = is_kept ? n : 0;
}

/* Counts what comes as handshake after the handshake. Breaking makes the BIO give no more, so
 * that what is left of a flood in the buffer is not served. */
static void tls_on_message(int is_written, int version, int type, const void *data, size_t n,
                           SSL *ssl, void *userdata)
{
    struct gt_tls *tls = userdata;
    if (is_written || type != SSL3_RT_HANDSHAKE)
        return;
    if (tls->state == TLS_HANDSHAKE) {
        if (tls->hello)
            keep_hello(tls, data, n);
        return;
    }
    if (tls->update_second != now_s()) {
        tls->update_second = now_s();
        tls->n_updates = 0;
    }
    if (++tls->n_updates > UPDATES_MAX) {
        tls->state = TLS_BROKEN;
        tls->why = "too many key updates";
    }
}

/* --- the context ------------------------------------------------------------------------------ */

static bool has_aes_instructions(void)
{
#if defined(__x86_64__) || defined(__i386__)
    return __builtin_cpu_supports("aes");
#elif defined(__aarch64__)
    return getauxval(AT_HWCAP) & (1ul << 3); /* HWCAP_AES */
#elif defined(__arm__)
    return getauxval(AT_HWCAP2) & (1ul << 0); /* HWCAP2_AES */
#else
    return false;
#endif
}

static bool configure(struct gt_tls_context *context, enum gt_tls_role role)
{
    SSL_CTX *ssl = context->ssl;
    const char *suites = has_aes_instructions()
                             ? "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256"
                             : "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256";
    /* A system-wide openssl.cnf may have set any of these. */
    SSL_CTX_clear_options(ssl, SSL_OP_IGNORE_UNEXPECTED_EOF | SSL_OP_ALLOW_NO_DHE_KEX |
                                   SSL_OP_ENABLE_KTLS);
    SSL_CTX_set_options(ssl, SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION |
                                 SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
    SSL_CTX_set_mode(ssl, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
    /* The trust store stays empty: no certificate is ever good. */
    SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    if (role == GT_TLS_CLIENT) {
        SSL_CTX_set_psk_use_session_callback(ssl, tls_on_psk_use);
    } else {
        SSL_CTX_set_psk_find_session_callback(ssl, tls_on_psk_find);
        SSL_CTX_set_alpn_select_cb(ssl, tls_on_alpn, context);
    }
    return SSL_CTX_set_min_proto_version(ssl, TLS1_3_VERSION) &&
           SSL_CTX_set_max_proto_version(ssl, TLS1_3_VERSION) &&
           SSL_CTX_set_ciphersuites(ssl, suites) && SSL_CTX_set1_groups_list(ssl, "X25519") &&
           SSL_CTX_set_num_tickets(ssl, 0) && SSL_CTX_set_max_early_data(ssl, 0) &&
           SSL_CTX_set_recv_max_early_data(ssl, 0) &&
           (role == GT_TLS_CLIENT
                ? SSL_CTX_set_alpn_protos(ssl, context->alpn, 1u + context->alpn[0]) == 0
                : SSL_CTX_set_session_id_context(ssl, context->alpn,
                                                 1)); /* any: verify wants one */
}

int gt_tls_context_new(enum gt_tls_role role, const char *alpn, struct gt_tls_context **ret)
{
    size_t n = strlen(alpn);
    if (n == 0 || n > ALPN_MAX)
        return -EINVAL;
    struct gt_tls_context *context = calloc(1, sizeof *context);
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

struct gt_tls_context *gt_tls_context_free(struct gt_tls_context *context)
{
    if (context) {
        SSL_CTX_free(context->ssl);
        BIO_meth_free(context->method);
        free(context);
    }
    return NULL;
}

/* --- a connection ----------------------------------------------------------------------------- */

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
    SSL_set_msg_callback(tls->ssl, tls_on_message);
    SSL_set_msg_callback_arg(tls->ssl, tls);
    *ret = tls;
    return 0;
}

int gt_tls_new_client(struct gt_tls_context *context, int fd, struct gt_span identity,
                      const uint8_t psk[static GT_KEY_SIZE], struct gt_tls **ret)
{
    if (identity.n == 0 || identity.n > IDENTITY_MAX)
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
        tls->key_since = now_s();
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
    if (tls->key_bytes < tls->key_bytes_max && now_s() - tls->key_since < KEY_S_MAX)
        return;
    if (SSL_key_update(tls->ssl, SSL_KEY_UPDATE_NOT_REQUESTED)) {
        tls->key_bytes = n;
        tls->key_since = now_s();
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

const char *gt_tls_suite(const struct gt_tls *tls)
{
    return SSL_get_cipher_name(tls->ssl);
}

void gt_tls_set_key_limit(struct gt_tls *tls, uint64_t n_bytes)
{
    tls->key_bytes_max = n_bytes;
}
