/* SPDX-License-Identifier: ISC */
/*
 * A connection after its handshake: reading, writing and key updates in both directions. The end of
 * the TCP connection is never treated as close_notify (truncation, RFC 8446, section 6.1).
 *
 * Records are opened in place in the input buffer, and sealed directly to the output buffer
 * (record.h). gt_tls_write() checks for room before it encrypts, so that a write is all or nothing
 * and no record is ever encrypted twice.
 */
#include <string.h>

#include "gotthard/tls/tls-context.h"

#define WRITE_OVERHEAD 512  /* bytes: overhead of a record, and of a KeyUpdate before it */
#define UPDATES_MAX    8    /* received key updates per second */
#define EMPTY_MAX      32   /* consecutive records without data */
#define KEY_S_MAX      3600 /* seconds until our KeyUpdate, if not earlier by ->key_bytes_max */

/* --- writing ---------------------------------------------------------------------------------- */

/* Appends one record to the output, which must have room. */
static int tls_seal(struct gt_tls *tls, enum gt_record_type type, const struct gt_span *parts,
                    size_t n_parts, size_t n)
{
    uint8_t *room;

    int r = gt_iobuf_reserve(&tls->iobuf, n + GT_RECORD_OVERHEAD, &room);
    if (r == 0)
        r = gt_record_seal(&tls->writing, type, parts, n_parts, room);
    if (r)
        return tls_break(tls, "encryption failed");
    gt_iobuf_commit(&tls->iobuf, n + GT_RECORD_OVERHEAD);
    return 0;
}

/* Tries to send an alert. */
static void tls_alert(struct gt_tls *tls, uint8_t level, uint8_t description)
{
    const uint8_t alert[] = {level, description};

    if (gt_tls_has_room(tls, sizeof(alert)) &&
        tls_seal(tls, GT_RECORD_ALERT, &(struct gt_span){alert, sizeof(alert)}, 1, sizeof(alert)) ==
            0 &&
        gt_tls_flush(tls))
        return;
}

static bool is_key_update_due(const struct gt_tls *tls)
{
    return tls->is_update_requested || tls->key_bytes >= tls->key_bytes_max ||
           tls_now_s() - tls->key_since >= KEY_S_MAX;
}

/* Sends KeyUpdate as the last record with the old key. */
static int tls_update_key(struct gt_tls *tls)
{
    static const uint8_t update[] = {SSL3_MT_KEY_UPDATE, 0, 0, 1, SSL_KEY_UPDATE_NOT_REQUESTED};

    int r = tls_seal(tls, GT_RECORD_HANDSHAKE, &(struct gt_span){update, sizeof(update)}, 1,
                     sizeof(update));
    if (r == 0 && gt_record_update(&tls->writing))
        r = tls_break(tls, "key update failed");
    tls->key_bytes = 0;
    tls->key_since = tls_now_s();
    tls->is_update_requested = false;
    return r;
}

size_t gt_tls_record_size(const struct gt_tls *tls)
{
    return tls->iobuf.is_fast ? GT_RECORD_MAX : GT_TLS_SEGMENT;
}

bool gt_tls_has_room(struct gt_tls *tls, size_t n)
{
    return gt_iobuf_room(&tls->iobuf) >= n + WRITE_OVERHEAD;
}

int gt_tls_write_parts(struct gt_tls *tls, const struct gt_span *parts, size_t n_parts)
{
    size_t n = 0;

    for (size_t i = 0; i < n_parts; i++)
        n += parts[i].n;
    if ((tls->state != TLS_OPEN && tls->state != TLS_CLOSED) || n > GT_RECORD_MAX)
        return tls_break(tls, "write while not connected");
    if (n == 0)
        return 0;
    if (!gt_tls_has_room(tls, n)) {
        if (gt_tls_flush(tls) == GT_TLS_E_BROKEN)
            return GT_TLS_E_BROKEN;
        if (!gt_tls_has_room(tls, n))
            return GT_TLS_E_AGAIN;
    }
    if (is_key_update_due(tls) && tls_update_key(tls))
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
    if (tls->is_out_of_memory)
        return GT_TLS_E_BROKEN; /* the peer would take an alert for a rejection of its key */
    switch (gt_iobuf_flush(&tls->iobuf)) {
    case 0: return 0;
    case GT_IOBUF_E_AGAIN: return GT_TLS_E_AGAIN;
    default:
        /* Reading continues: the peer's last records may be in the socket. */
        if (tls->why[0] == 0)
            tls->why = strerror(tls->iobuf.send_error);
        return GT_TLS_E_BROKEN;
    }
}

bool gt_tls_wants_write(const struct gt_tls *tls)
{
    return gt_iobuf_has_output(&tls->iobuf);
}

/* --- reading ---------------------------------------------------------------------------------- */

/* Handles a protocol violation of the peer: sends an alert and fails. */
static int tls_reject(struct gt_tls *tls, uint8_t alert, const char *why)
{
    tls_alert(tls, SSL3_AL_FATAL, alert);
    return tls_break(tls, why);
}

static int tls_handle_alert(struct gt_tls *tls, const uint8_t *alert, size_t n)
{
    if (n != 2)
        return tls_reject(tls, SSL_AD_DECODE_ERROR, "malformed alert");
    if (alert[1] != SSL_AD_CLOSE_NOTIFY)
        return tls_break(tls, SSL_alert_desc_string_long(alert[1]));
    tls->state = TLS_CLOSED;
    return GT_TLS_E_CLOSED;
}

static bool has_too_many_updates(struct gt_tls *tls)
{
    if (tls->update_second != tls_now_s()) {
        tls->update_second = tls_now_s();
        tls->n_updates = 0;
    }
    return ++tls->n_updates > UPDATES_MAX;
}

/* After the handshake only KeyUpdate is permitted. It must end its record, because the next one has
 * another key (RFC 8446, section 5.1). */
static int tls_handle_handshake(struct gt_tls *tls, const uint8_t *message, size_t n)
{
    static const uint8_t update[] = {SSL3_MT_KEY_UPDATE, 0, 0, 1};

    if (n != sizeof(update) + 1 || memcmp(message, update, sizeof(update)) != 0 ||
        message[4] > SSL_KEY_UPDATE_REQUESTED)
        return tls_reject(tls, SSL_AD_UNEXPECTED_MESSAGE, "unexpected handshake message");
    if (has_too_many_updates(tls))
        return tls_reject(tls, SSL_AD_UNEXPECTED_MESSAGE, "too many key updates");
    if (gt_record_update(&tls->reading))
        return tls_break(tls, "key update failed");
    tls->is_update_requested |= message[4] == SSL_KEY_UPDATE_REQUESTED;
    return 0;
}

/* Handles a record that is not data. Returns 0 to continue with the next record. */
static int tls_handle_other(struct gt_tls *tls, unsigned type, const uint8_t *content, size_t n)
{
    switch (type) {
    case GT_RECORD_ALERT: return tls_handle_alert(tls, content, n);
    case GT_RECORD_HANDSHAKE: return tls_handle_handshake(tls, content, n);
    default: return tls_reject(tls, SSL_AD_UNEXPECTED_MESSAGE, "unknown record type");
    }
}

static int tls_result_of_fill(struct gt_tls *tls, int r)
{
    switch (r) {
    case 0: return 0;
    case GT_IOBUF_E_AGAIN: return GT_TLS_E_AGAIN;
    case GT_IOBUF_E_EOF: return tls_break(tls, "connection closed without close_notify");
    case GT_IOBUF_E_BROKEN: return tls_break(tls, strerror(tls->iobuf.recv_error));
    default: return tls_break(tls, "out of memory");
    }
}

/* Finds the next record in the input. Returns E_AGAIN if it is incomplete. */
static int tls_find_record(struct gt_tls *tls, uint8_t **ret, size_t *ret_n)
{
    if (gt_iobuf_n_input(&tls->iobuf) < GT_RECORD_HEADER)
        return GT_TLS_E_AGAIN;
    *ret = gt_iobuf_input(&tls->iobuf);
    if (gt_record_size(*ret, ret_n))
        return tls_reject(tls, SSL_AD_UNEXPECTED_MESSAGE, "malformed record");
    return gt_iobuf_n_input(&tls->iobuf) >= *ret_n ? 0 : GT_TLS_E_AGAIN;
}

/* Opens one record in place. *ret is empty if it was not data. */
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
        return tls_reject(tls, SSL_AD_BAD_RECORD_MAC, "bad record mac");
    gt_iobuf_drop(&tls->iobuf, n);
    bool is_data = type == GT_RECORD_DATA;
    tls->n_empty = is_data && n_content ? 0 : tls->n_empty + 1;
    if (tls->n_empty > EMPTY_MAX)
        return tls_reject(tls, SSL_AD_UNEXPECTED_MESSAGE, "too many empty records");
    *ret = gt_span(content, is_data ? n_content : 0);
    return is_data ? 0 : tls_handle_other(tls, type, content, n_content);
}

/* Returns 0 if more data may follow, else E_CLOSED or E_BROKEN. */
static int tls_end_of_input(const struct gt_tls *tls)
{
    if (tls->state == TLS_OPEN)
        return 0;
    return tls->state == TLS_CLOSED ? GT_TLS_E_CLOSED : GT_TLS_E_BROKEN;
}

int gt_tls_open(struct gt_tls *tls, struct gt_span *ret)
{
    struct gt_span content = {0};
    int r = tls_end_of_input(tls);

    while (r == 0 && content.n == 0)
        r = tls_open_record(tls, &content);
    if (r == 0)
        *ret = content;
    return r;
}

int gt_tls_fill(struct gt_tls *tls, size_t n_max)
{
    int r = tls_end_of_input(tls);

    return r ? r : tls_result_of_fill(tls, gt_iobuf_fill(&tls->iobuf, n_max));
}

void gt_tls_release_input(struct gt_tls *tls)
{
    gt_iobuf_release_input(&tls->iobuf);
}

/* Ensures that ->plain is not empty. */
static int tls_fill_plain(struct gt_tls *tls)
{
    int r = 0;

    while (r == 0 && tls->plain.n == 0) {
        r = gt_tls_open(tls, &tls->plain);
        if (r == GT_TLS_E_AGAIN)
            r = gt_tls_fill(tls, GT_IOBUF_SIZE);
    }
    return r;
}

int gt_tls_read(struct gt_tls *tls, void *ret, size_t n, size_t *ret_n)
{
    int r = tls_fill_plain(tls);

    if (r)
        return r;
    n = GT_MIN(n, tls->plain.n);
    memcpy(ret, tls->plain.data, n);
    tls->plain = gt_span(tls->plain.data + n, tls->plain.n - n);
    if (tls->plain.n == 0)
        gt_tls_release_input(tls);
    *ret_n = n;
    return 0;
}

bool gt_tls_has_pending(const struct gt_tls *tls)
{
    size_t n, n_input = gt_iobuf_n_input(&tls->iobuf);

    if (tls->state != TLS_OPEN)
        return false;
    if (tls->plain.n)
        return true;
    return n_input >= GT_RECORD_HEADER &&
           (gt_record_size(gt_iobuf_input(&tls->iobuf), &n) || n_input >= n);
}

/* --- the end ---------------------------------------------------------------------------------- */

void gt_tls_close(struct gt_tls *tls)
{
    if (tls->state == TLS_OPEN || tls->state == TLS_CLOSED)
        tls_alert(tls, SSL3_AL_WARNING, SSL_AD_CLOSE_NOTIFY);
    if (gt_tls_flush(tls))
        return; /* the peer may not receive it */
}

const char *gt_tls_why(const struct gt_tls *tls)
{
    return tls->why;
}

static bool is_reset(int err)
{
    return err == ECONNRESET || err == EPIPE;
}

bool gt_tls_is_hung_up(const struct gt_tls *tls)
{
    const struct gt_iobuf *iobuf = &tls->iobuf;

    if (is_reset(iobuf->recv_error) || is_reset(iobuf->send_error))
        return true;
    return tls->state == TLS_BROKEN && iobuf->is_eof && !iobuf->recv_error;
}

void gt_tls_set_key_limit(struct gt_tls *tls, uint64_t n_bytes)
{
    tls->key_bytes_max = n_bytes;
}
