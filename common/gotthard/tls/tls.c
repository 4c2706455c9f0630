/* SPDX-License-Identifier: ISC */
/*
 * A connection after its handshake: reading, writing, key updates both ways, and what went wrong in
 * words. A cut connection is never its end.
 *
 * Records are opened where they lie in the socket's input buffer, and sealed straight into the
 * output buffer (record.h). gt_tls_write looks for room before it encrypts, so that a write is all
 * or nothing, and none is ever repeated.
 */
#include <string.h>

#include "gotthard/tlscontext.h"

#define WRITE_SPARE 512  /* of a record around its bytes, and for a KeyUpdate before it */
#define UPDATES_MAX 8    /* inbound, per second */
#define EMPTY_MAX   32   /* records in a row that carry nothing */
#define KEY_S_MAX   3600 /* own KeyUpdate after so long, or ->key_bytes_max */

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

size_t gt_tls_record_size(const struct gt_tls *tls)
{
    return tls->batch.is_fast ? GT_RECORD_MAX : GT_TLS_SEGMENT;
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

bool gt_tls_is_hung_up(const struct gt_tls *tls)
{
    return tls->state == TLS_BROKEN && tls->batch.is_eof && !tls->batch.recv_error;
}

void gt_tls_set_key_limit(struct gt_tls *tls, uint64_t n_bytes)
{
    tls->key_bytes_max = n_bytes;
}
