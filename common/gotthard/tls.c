/* SPDX-License-Identifier: ISC */
/*
 * A connection: the handshake and what is asserted after it, reading, writing, key updates both
 * ways, and what went wrong in words. A cut connection is never its end.
 *
 * The handshake is OpenSSL's. When it is done its object is freed and its two secrets are ours
 * (record.h): records are opened where they lie in the socket's input buffer, and sealed straight
 * into the output buffer. gt_tls_write looks for room before it encrypts, so
 * that a write is all or nothing, and none is ever repeated.
 */
#include <openssl/err.h>
#include <string.h>

#include "gotthard/binder.h"
#include "gotthard/tlscontext.h"

#define WRITE_SPARE   512 /* of a record around its bytes, and for a KeyUpdate before it */
#define UPDATES_MAX   8   /* inbound, per second */
#define EMPTY_MAX     32  /* records in a row that carry nothing */
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
        gt_record_deinit(&tls->reading);
        gt_record_deinit(&tls->writing);
        gt_batch_deinit(&tls->batch);
        gt_wipe(tls, sizeof *tls);
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
    if (tls->n_secrets != 3 || SSL_has_pending(tls->ssl))
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
    if (r == 0 || (tls->find && !tls->is_asked))
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

/* --- writing ---------------------------------------------------------------------------------- */

/* There is room. */
static int tls_seal(struct gt_tls *tls, enum gt_record_type type, const struct gt_span *parts,
                    size_t n_parts, size_t n)
{
    uint8_t *room;
    int r = gt_batch_reserve(&tls->batch, n + GT_RECORD_SPARE, &room);
    if (r == 0)
        r = gt_record_seal(&tls->writing, type, parts, n_parts, room);
    if (r)
        return tls_break(tls, "a record could not be made");
    gt_batch_commit(&tls->batch, n + GT_RECORD_SPARE);
    return 0;
}

/* Best effort. */
static void tls_alert(struct gt_tls *tls, uint8_t level, uint8_t description)
{
    const uint8_t alert[] = {level, description};
    if (gt_tls_has_room(tls, sizeof alert) &&
        tls_seal(tls, GT_RECORD_ALERT, &(struct gt_span){alert, sizeof alert}, 1, sizeof alert) ==
            0 &&
        gt_tls_flush(tls))
        return;
}

static bool is_key_worn(const struct gt_tls *tls)
{
    return tls->is_update_asked || tls->key_bytes >= tls->key_bytes_max ||
           tls_now_s() - tls->key_since >= KEY_S_MAX;
}

/* The last record of the old key says so. */
static int tls_refresh_key(struct gt_tls *tls)
{
    static const uint8_t update[] = {SSL3_MT_KEY_UPDATE, 0, 0, 1, SSL_KEY_UPDATE_NOT_REQUESTED};
    int r = tls_seal(tls, GT_RECORD_HANDSHAKE, &(struct gt_span){update, sizeof update}, 1,
                     sizeof update);
    if (r == 0 && gt_record_update(&tls->writing))
        r = tls_break(tls, "no next key");
    tls->key_bytes = 0;
    tls->key_since = tls_now_s();
    tls->is_update_asked = false;
    return r;
}

bool gt_tls_has_room(struct gt_tls *tls, size_t n)
{
    return gt_batch_room(&tls->batch) >= n + WRITE_SPARE;
}

int gt_tls_write_parts(struct gt_tls *tls, const struct gt_span *parts, size_t n_parts)
{
    size_t n = 0;
    for (size_t i = 0; i < n_parts; i++)
        n += parts[i].n;
    if ((tls->state != TLS_OPEN && tls->state != TLS_CLOSED) || n > GT_RECORD_MAX)
        return tls_break(tls, "written to before or after its time");
    if (n == 0)
        return 0;
    if (!gt_tls_has_room(tls, n)) {
        if (gt_tls_flush(tls) == GT_TLS_E_BROKEN)
            return GT_TLS_E_BROKEN;
        if (!gt_tls_has_room(tls, n))
            return GT_TLS_E_AGAIN;
    }
    if (is_key_worn(tls) && tls_refresh_key(tls))
        return GT_TLS_E_BROKEN;
    tls->key_bytes += n;
    return tls_seal(tls, GT_RECORD_DATA, parts, n_parts, n);
}

int gt_tls_write(struct gt_tls *tls, const void *data, size_t n)
{
    return gt_tls_write_parts(tls, &(struct gt_span){data, n}, 1);
}

int gt_tls_flush(struct gt_tls *tls)
{
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

/* --- reading ---------------------------------------------------------------------------------- */

/* The peer did what it must not; it is told. */
static int tls_fault(struct gt_tls *tls, uint8_t alert, const char *why)
{
    tls_alert(tls, SSL3_AL_FATAL, alert);
    return tls_break(tls, why);
}

static int tls_on_alert(struct gt_tls *tls, const uint8_t *alert, size_t n)
{
    if (n != 2)
        return tls_fault(tls, SSL_AD_DECODE_ERROR, "an alert that is none");
    if (alert[1] != SSL_AD_CLOSE_NOTIFY)
        return tls_break(tls, SSL_alert_desc_string_long(alert[1]));
    tls->state = TLS_CLOSED;
    return GT_TLS_E_CLOSED;
}

static bool is_flooding(struct gt_tls *tls)
{
    if (tls->update_second != tls_now_s()) {
        tls->update_second = tls_now_s();
        tls->n_updates = 0;
    }
    return ++tls->n_updates > UPDATES_MAX;
}

/* After the handshake only a KeyUpdate is one, and it ends its record: the next has another key. */
static int tls_on_handshake(struct gt_tls *tls, const uint8_t *message, size_t n)
{
    static const uint8_t update[] = {SSL3_MT_KEY_UPDATE, 0, 0, 1};
    if (n != sizeof update + 1 || memcmp(message, update, sizeof update) != 0 ||
        message[4] > SSL_KEY_UPDATE_REQUESTED)
        return tls_fault(tls, SSL_AD_UNEXPECTED_MESSAGE, "a handshake after the handshake");
    if (is_flooding(tls))
        return tls_fault(tls, SSL_AD_UNEXPECTED_MESSAGE, "too many key updates");
    if (gt_record_update(&tls->reading))
        return tls_break(tls, "no next key");
    tls->is_update_asked |= message[4] == SSL_KEY_UPDATE_REQUESTED;
    return 0;
}

/* What is no data. 0: go on with the next record. */
static int tls_on_other(struct gt_tls *tls, unsigned type, const uint8_t *content, size_t n)
{
    switch (type) {
    case GT_RECORD_ALERT: return tls_on_alert(tls, content, n);
    case GT_RECORD_HANDSHAKE: return tls_on_handshake(tls, content, n);
    default: return tls_fault(tls, SSL_AD_UNEXPECTED_MESSAGE, "a record of no known type");
    }
}

static int tls_judge_batch(struct gt_tls *tls, int r)
{
    switch (r) {
    case 0: return 0;
    case GT_BATCH_E_AGAIN: return GT_TLS_E_AGAIN;
    case GT_BATCH_E_EOF: return tls_break(tls, "cut off without a goodbye");
    case GT_BATCH_E_BROKEN: return tls_break(tls, strerrordesc_np(tls->batch.recv_error));
    default: return tls_break(tls, "out of memory");
    }
}

/* The next record, if it is here as a whole. */
static int tls_find_record(struct gt_tls *tls, uint8_t **ret, size_t *ret_n)
{
    if (gt_batch_n_input(&tls->batch) < GT_RECORD_HEADER)
        return GT_TLS_E_AGAIN;
    *ret = gt_batch_input(&tls->batch);
    if (gt_record_size(*ret, ret_n))
        return tls_fault(tls, SSL_AD_UNEXPECTED_MESSAGE, "what came is no record");
    return gt_batch_n_input(&tls->batch) >= *ret_n ? 0 : GT_TLS_E_AGAIN;
}

/* One record, opened where it lies. Nothing in *ret: it was no data. */
static int tls_open_record(struct gt_tls *tls, struct gt_span *ret)
{
    uint8_t *sealed;
    size_t n, n_content;
    unsigned type;
    int r = tls_find_record(tls, &sealed, &n);
    if (r)
        return r;
    uint8_t *content = sealed + GT_RECORD_HEADER;
    if (gt_record_open(&tls->reading, sealed, n, content, &n_content, &type))
        return tls_fault(tls, SSL_AD_BAD_RECORD_MAC, "bad record mac");
    gt_batch_drop(&tls->batch, n);
    bool is_data = type == GT_RECORD_DATA;
    tls->n_empty = is_data && n_content ? 0 : tls->n_empty + 1;
    if (tls->n_empty > EMPTY_MAX)
        return tls_fault(tls, SSL_AD_UNEXPECTED_MESSAGE, "too many empty records");
    *ret = gt_span(content, is_data ? n_content : 0);
    return is_data ? 0 : tls_on_other(tls, type, content, n_content);
}

/* Why nothing more comes; 0: it may. */
static int tls_end(const struct gt_tls *tls)
{
    if (tls->state == TLS_OPEN)
        return 0;
    return tls->state == TLS_CLOSED ? GT_TLS_E_CLOSED : GT_TLS_E_BROKEN;
}

int gt_tls_open(struct gt_tls *tls, struct gt_span *ret)
{
    struct gt_span content = {0};
    int r = tls_end(tls);
    while (r == 0 && content.n == 0)
        r = tls_open_record(tls, &content);
    if (r == 0)
        *ret = content;
    return r;
}

int gt_tls_fill(struct gt_tls *tls)
{
    int r = tls_end(tls);
    return r ? r : tls_judge_batch(tls, gt_batch_fill(&tls->batch));
}

void gt_tls_rest(struct gt_tls *tls)
{
    gt_batch_rest(&tls->batch);
}

/* Something in ->plain. */
static int tls_need_plain(struct gt_tls *tls)
{
    int r = 0;
    while (r == 0 && tls->plain.n == 0) {
        r = gt_tls_open(tls, &tls->plain);
        if (r == GT_TLS_E_AGAIN)
            r = gt_tls_fill(tls);
    }
    return r;
}

int gt_tls_read(struct gt_tls *tls, void *ret, size_t n, size_t *ret_n)
{
    int r = tls_need_plain(tls);
    if (r)
        return r;
    n = GT_MIN(n, tls->plain.n);
    memcpy(ret, tls->plain.data, n);
    tls->plain = gt_span(tls->plain.data + n, tls->plain.n - n);
    if (tls->plain.n == 0)
        gt_tls_rest(tls);
    *ret_n = n;
    return 0;
}

bool gt_tls_has_pending(const struct gt_tls *tls)
{
    size_t n, n_input = gt_batch_n_input(&tls->batch);
    if (tls->state != TLS_OPEN)
        return false;
    if (tls->plain.n)
        return true;
    return n_input >= GT_RECORD_HEADER &&
           (gt_record_size(gt_batch_input(&tls->batch), &n) || n_input >= n);
}

/* --- the end ---------------------------------------------------------------------------------- */

void gt_tls_close(struct gt_tls *tls)
{
    if (tls->state == TLS_OPEN || tls->state == TLS_CLOSED)
        tls_alert(tls, SSL3_AL_WARNING, SSL_AD_CLOSE_NOTIFY);
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
    return tls->suite ? tls->suite : "none yet";
}

void gt_tls_set_key_limit(struct gt_tls *tls, uint64_t n_bytes)
{
    tls->key_bytes_max = n_bytes;
}
