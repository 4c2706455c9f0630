/* SPDX-License-Identifier: ISC */
/*
 * Two buffers around a TLS connection. Must never grow them beyond their limits, whatever the peer
 * does, and never leave a secret in freed memory.
 */
#include "gotthard/relay/framed-connection.h"

#include <sys/socket.h>

#define OUT_MIN 512 /* bytes: nearly every answer fits */

void gt_framed_connection_init(struct gt_framed_connection *framed)
{
    *framed = (struct gt_framed_connection){.fd = -1};
}

void gt_framed_connection_attach(struct gt_framed_connection *framed, int fd, struct gt_tls *tls)
{
    framed->fd = fd;
    framed->tls = tls;
}

static void framed_free_in(struct gt_framed_connection *framed)
{
    if (framed->in)
        gt_wipe(framed->in, GT_FRAMED_CONNECTION_IN);
    free(framed->in);
    framed->in = NULL;
    framed->n_in = framed->n_used = 0;
}

static void framed_free_out(struct gt_framed_connection *framed)
{
    if (framed->out)
        gt_wipe(framed->out, framed->n_out);
    free(framed->out);
    framed->out = NULL;
    framed->n_out = framed->out_size = 0;
}

void gt_framed_connection_disconnect(struct gt_framed_connection *framed)
{
    if (framed->tls)
        gt_tls_close(framed->tls);
    framed->tls = gt_tls_free(framed->tls);
    gt_close(&framed->fd);
    framed->is_blocked = framed->is_finishing = false;
}

void gt_framed_connection_deinit(struct gt_framed_connection *framed)
{
    framed->tls = gt_tls_free(framed->tls);
    gt_close(&framed->fd);
    framed_free_in(framed);
    framed_free_out(framed);
    framed->is_blocked = framed->is_finishing = false;
}

/* --- sending ---------------------------------------------------------------------------------- */

static int framed_flush_tls(struct gt_framed_connection *framed)
{
    int r = gt_tls_flush(framed->tls);

    framed->is_blocked = r == GT_TLS_E_AGAIN;
    return r;
}

/*
 * The whole queue goes into one record. The first record after the handshake joins the client's
 * Finished in one segment. Later ones wait until the record before is sent: TLS has room for eight,
 * which a peer that does not read should not fill.
 */
int gt_framed_connection_flush(struct gt_framed_connection *framed)
{
    int r = framed->is_blocked || framed->n_out == 0 ? framed_flush_tls(framed) : 0;

    if (r == 0 && framed->n_out > 0) {
        r = gt_tls_write(framed->tls, framed->out, framed->n_out);
        framed->is_blocked = r == GT_TLS_E_AGAIN;
        if (r == 0) {
            framed_free_out(framed);
            r = framed_flush_tls(framed);
        }
    }
    return r == 0 || r == GT_TLS_E_AGAIN ? 0 : GT_FRAMED_CONNECTION_E_BROKEN;
}

/* Makes room for @n more bytes; returns false if that is beyond the limit, or without memory. */
static bool framed_grow_out(struct gt_framed_connection *framed, size_t n)
{
    size_t size = GT_MAX(framed->out_size, (uint32_t)OUT_MIN);

    while (size < framed->n_out + n)
        size *= 2;
    if (size == framed->out_size)
        return true;
    uint8_t *out = size <= GT_FRAMED_CONNECTION_OUT ? malloc(size) : NULL;
    if (!out)
        return false;
    uint32_t n_out = framed->n_out;
    if (n_out > 0)
        memcpy(out, framed->out, n_out);
    framed_free_out(framed);
    framed->out = out;
    framed->n_out = n_out;
    framed->out_size = (uint32_t)size;
    return true;
}

static int framed_append(struct gt_framed_connection *framed, const uint8_t *encoded, size_t n,
                         size_t reserved)
{
    if (!framed_grow_out(framed, n + reserved))
        return GT_FRAMED_CONNECTION_E_FULL;
    memcpy(framed->out + framed->n_out, encoded, n);
    framed->n_out += (uint32_t)n;
    return 0;
}

int gt_framed_connection_queue(struct gt_framed_connection *framed,
                               const struct gt_control_frame *frame, size_t reserved)
{
    uint8_t encoded[GT_CONTROL_FRAME_MAX];
    size_t n = gt_control_encode(frame, encoded);
    int r = framed_append(framed, encoded, n, reserved);

    gt_wipe(encoded, n);
    return r;
}

int gt_framed_connection_queue_filler(struct gt_framed_connection *framed, size_t reserved)
{
    uint8_t filler[GT_CONTROL_FRAME_MAX];

    return framed_append(framed, filler, gt_control_encode_filler(filler), reserved);
}

bool gt_framed_connection_has_unsent(const struct gt_framed_connection *framed)
{
    return framed->n_out > 0 || gt_framed_connection_wants_write(framed);
}

bool gt_framed_connection_wants_write(const struct gt_framed_connection *framed)
{
    return framed->tls && gt_tls_wants_write(framed->tls);
}

bool gt_framed_connection_has_room(const struct gt_framed_connection *framed)
{
    return framed->n_out < GT_FRAMED_CONNECTION_OUT / 2;
}

/* --- receiving -------------------------------------------------------------------------------- */

/* Removes the frame that was decoded last, unless that was done. */
static void framed_consume(struct gt_framed_connection *framed)
{
    uint32_t n = framed->n_used;

    if (n == 0)
        return;
    framed->n_in -= n;
    framed->n_used = 0;
    memmove(framed->in, framed->in + n, framed->n_in);
    gt_wipe(framed->in + framed->n_in, n);
}

int gt_framed_connection_decode(struct gt_framed_connection *framed, struct gt_control_frame *ret)
{
    int r = GT_CONTROL_E_UNKNOWN;

    while (r == GT_CONTROL_E_UNKNOWN) {
        size_t n_used = 0;

        framed_consume(framed);
        if (framed->n_in == 0)
            return GT_FRAMED_CONNECTION_E_AGAIN;
        r = gt_control_decode(framed->in, framed->n_in, ret, &n_used);
        framed->n_used = (uint32_t)n_used;
        if (r == 0 && ret->type != GT_CONTROL_ACCESS) /* wiped at once: it may be a ticket */
            framed_consume(framed);
    }
    if (r == GT_CONTROL_E_SHORT)
        return GT_FRAMED_CONNECTION_E_AGAIN;
    return r == 0 ? 0 : GT_FRAMED_CONNECTION_E_BAD;
}

int gt_framed_connection_read(struct gt_framed_connection *framed)
{
    size_t n = 0;

    if (!framed->in && !(framed->in = malloc(GT_FRAMED_CONNECTION_IN)))
        return GT_FRAMED_CONNECTION_E_BROKEN;
    int r = gt_tls_read(framed->tls, framed->in + framed->n_in,
                        GT_FRAMED_CONNECTION_IN - framed->n_in, &n);
    if (r != 0 && framed->n_in == 0)
        framed_free_in(framed);
    if (r == GT_TLS_E_AGAIN)
        return GT_FRAMED_CONNECTION_E_AGAIN;
    if (r != 0)
        return r == GT_TLS_E_CLOSED ? GT_FRAMED_CONNECTION_E_CLOSED : GT_FRAMED_CONNECTION_E_BROKEN;
    framed->n_in += (uint32_t)n;
    return 0;
}

bool gt_framed_connection_has_pending(const struct gt_framed_connection *framed)
{
    return framed->tls && gt_tls_has_pending(framed->tls);
}

/* --- closing in order ------------------------------------------------------------------------- */

int gt_framed_connection_finish(struct gt_framed_connection *framed)
{
    if (gt_framed_connection_flush(framed) != 0)
        return GT_FRAMED_CONNECTION_E_BROKEN;
    if (!framed->is_finishing && gt_framed_connection_has_unsent(framed))
        return GT_FRAMED_CONNECTION_E_AGAIN;
    if (!framed->is_finishing)
        gt_tls_close(framed->tls);
    framed->is_finishing = true;
    if (gt_framed_connection_wants_write(framed))
        return GT_FRAMED_CONNECTION_E_AGAIN;
    shutdown(framed->fd, SHUT_WR);
    return 0;
}

int gt_framed_connection_linger(struct gt_framed_connection *framed)
{
    uint8_t discarded[4096];
    ssize_t n = recv(framed->fd, discarded, sizeof(discarded), MSG_DONTWAIT);

    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        return GT_FRAMED_CONNECTION_E_CLOSED;
    return GT_FRAMED_CONNECTION_E_AGAIN;
}
