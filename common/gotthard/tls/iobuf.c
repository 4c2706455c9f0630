/* SPDX-License-Identifier: ISC */
/*
 * The pool of buffers is thread-local and last-in first-out. It needs no lock, and a loop that
 * serves one connection after another uses the same few buffers, which stay in the CPU cache.
 *
 * Input is decrypted in place, so that a returned buffer has plaintext. Wiping it each time would
 * cost a tenth of the decryption. It is wiped when a connection or a stream ends, as far as it was
 * used; one that a connection holds at that time, when it returns. A buffer that the pool does not
 * keep returns to the kernel.
 */
#include "gotthard/tls/iobuf.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "gotthard/base/heap.h"
#include "gotthard/crypto/crypto.h"

#define KEPT_MAX 4 /* free buffers that a pool keeps */

static _Thread_local struct {
    uint8_t *kept[KEPT_MAX];
    size_t n_used[KEPT_MAX]; /* of each, from its beginning: not wiped yet */
    size_t n_kept;
    size_t n_held;
    unsigned n_wipes; /* of the kept ones */
} pool;

/* Freed buffers must return to the system at once. */
__attribute__((constructor)) static void pool_init(void)
{
    gt_heap_map_from(GT_IOBUF_SIZE / 2);
}

/* *ret_use: what it may have of an earlier user. */
static uint8_t *pool_get(struct gt_iobuf_use *ret_use)
{
    bool is_kept = pool.n_kept > 0;
    uint8_t *buffer = is_kept ? pool.kept[--pool.n_kept] : malloc(GT_IOBUF_SIZE);

    if (!buffer)
        return NULL;
    pool.n_held++;
    *ret_use = (struct gt_iobuf_use){is_kept ? pool.n_used[pool.n_kept] : 0, pool.n_wipes};
    return buffer;
}

static void pool_put(uint8_t **buffer, const struct gt_iobuf_use *use)
{
    size_t n_used = use->n;

    if (!*buffer)
        return;
    if (use->n_wipes != pool.n_wipes) { /* something has ended, and this may be its data */
        gt_wipe(*buffer, n_used);
        n_used = 0;
    }
    pool.n_held--;
    if (pool.n_kept < KEPT_MAX) {
        pool.n_used[pool.n_kept] = n_used;
        pool.kept[pool.n_kept++] = *buffer;
    } else {
        free(*buffer);
    }
    *buffer = NULL;
}

void gt_iobuf_wipe(void)
{
    for (size_t i = 0; i < pool.n_kept; i++) {
        gt_wipe(pool.kept[i], pool.n_used[i]);
        pool.n_used[i] = 0;
    }
    pool.n_wipes++;
}

size_t gt_iobuf_n_held(void)
{
    return pool.n_held;
}

void gt_iobuf_trim(void)
{
    while (pool.n_kept)
        free(pool.kept[--pool.n_kept]);
}

void gt_iobuf_init(struct gt_iobuf *iobuf, int fd)
{
    *iobuf = (struct gt_iobuf){.fd = fd, .out_max = GT_IOBUF_FIRST};
}

void gt_iobuf_deinit(struct gt_iobuf *iobuf)
{
    pool_put(&iobuf->in, &iobuf->in_use);
    pool_put(&iobuf->out, &iobuf->out_use);
    gt_iobuf_wipe();
}

/* Moves the input to the beginning of the buffer, so that all free room is after it. */
static int make_room(struct gt_iobuf *iobuf)
{
    if (!iobuf->in && !(iobuf->in = pool_get(&iobuf->in_use)))
        return -ENOMEM;
    memmove(iobuf->in, iobuf->in + iobuf->in_at, gt_iobuf_n_input(iobuf));
    iobuf->in_end -= iobuf->in_at;
    iobuf->in_at = 0;
    return 0;
}

void gt_iobuf_release_input(struct gt_iobuf *iobuf)
{
    if (gt_iobuf_has_input(iobuf))
        return;
    iobuf->in_at = iobuf->in_end = 0;
    pool_put(&iobuf->in, &iobuf->in_use);
}

int gt_iobuf_fill(struct gt_iobuf *iobuf, size_t n_max)
{
    if (iobuf->recv_error)
        return GT_IOBUF_E_BROKEN;
    if (iobuf->is_eof)
        return GT_IOBUF_E_EOF;
    if (iobuf->is_dry) {
        iobuf->is_dry = false;
        gt_iobuf_release_input(iobuf);
        return GT_IOBUF_E_AGAIN;
    }
    int r = make_room(iobuf);
    if (r)
        return r;
    size_t room = GT_MIN(GT_IOBUF_SIZE - iobuf->in_end, n_max);
    ssize_t n;
    do
        n = recv(iobuf->fd, iobuf->in + iobuf->in_end, room, 0);
    while (n < 0 && errno == EINTR);
    int err = errno;
    if (n > 0) {
        iobuf->in_end += (size_t)n;
        iobuf->in_use.n = GT_MAX(iobuf->in_use.n, iobuf->in_end);
        iobuf->is_dry = (size_t)n < room;
        return 0;
    }
    gt_iobuf_release_input(iobuf);
    if (n == 0) {
        iobuf->is_eof = true;
        return GT_IOBUF_E_EOF;
    }
    if (err == EAGAIN)
        return GT_IOBUF_E_AGAIN;
    iobuf->recv_error = err;
    return GT_IOBUF_E_BROKEN;
}

int gt_iobuf_read(struct gt_iobuf *iobuf, void *ret, size_t n, size_t *ret_n)
{
    int r = gt_iobuf_has_input(iobuf) ? 0 : gt_iobuf_fill(iobuf, GT_IOBUF_SIZE);

    if (r)
        return r;
    n = GT_MIN(n, gt_iobuf_n_input(iobuf));
    memcpy(ret, gt_iobuf_input(iobuf), n);
    gt_iobuf_drop(iobuf, n);
    gt_iobuf_release_input(iobuf);
    *ret_n = n;
    return 0;
}

size_t gt_iobuf_room(struct gt_iobuf *iobuf)
{
    /* Move unsent output only if that frees at least as many bytes as it moves. */
    if (iobuf->out_at >= GT_IOBUF_SIZE / 2) {
        memmove(iobuf->out, iobuf->out + iobuf->out_at, iobuf->out_end - iobuf->out_at);
        iobuf->out_end -= iobuf->out_at;
        iobuf->out_at = 0;
    }
    return iobuf->out_max - GT_MIN(iobuf->out_end, iobuf->out_max);
}

int gt_iobuf_reserve(struct gt_iobuf *iobuf, size_t n, uint8_t **ret)
{
    if (n > gt_iobuf_room(iobuf))
        return GT_IOBUF_E_AGAIN;
    if (!iobuf->out && !(iobuf->out = pool_get(&iobuf->out_use)))
        return -ENOMEM;
    *ret = iobuf->out + iobuf->out_end;
    return 0;
}

int gt_iobuf_put(struct gt_iobuf *iobuf, const void *data, size_t n)
{
    uint8_t *room;

    int r = gt_iobuf_reserve(iobuf, n, &room);
    if (r)
        return r;
    memcpy(room, data, n);
    gt_iobuf_commit(iobuf, n);
    return 0;
}

/* If the socket accepts more than half of the buffered output at once, the path is fast. */
static void adapt_output_limit(struct gt_iobuf *iobuf, size_t n_sent)
{
    if (n_sent <= iobuf->out_max / 2)
        return;
    iobuf->is_fast = true;
    iobuf->out_max = GT_MIN(2 * iobuf->out_max, (size_t)GT_IOBUF_SIZE);
}

int gt_iobuf_flush(struct gt_iobuf *iobuf)
{
    while (gt_iobuf_has_output(iobuf) && !iobuf->send_error) {
        ssize_t n = send(iobuf->fd, iobuf->out + iobuf->out_at, iobuf->out_end - iobuf->out_at,
                         MSG_NOSIGNAL);

        if (n >= 0) {
            iobuf->out_at += (size_t)n;
            adapt_output_limit(iobuf, (size_t)n);
        } else if (errno == EAGAIN) {
            iobuf->out_max = GT_IOBUF_FIRST;
            return GT_IOBUF_E_AGAIN;
        } else if (errno != EINTR) {
            iobuf->send_error = errno;
        }
    }
    iobuf->out_at = iobuf->out_end = 0;
    pool_put(&iobuf->out, &iobuf->out_use);
    return iobuf->send_error ? GT_IOBUF_E_BROKEN : 0;
}
