/* SPDX-License-Identifier: ISC */
/*
 * The pool is thread-local and last-in first-out: nothing is locked, and a loop that serves one
 * connection after another uses the same few buffers, which stay in the cache.
 */
#include "gotthard/batch.h"

#include <malloc.h>
#include <string.h>
#include <sys/socket.h>

#define KEPT_MAX 4

static _Thread_local struct {
    uint8_t *kept[KEPT_MAX];
    size_t n_kept;
    size_t n_held;
} pool;

/* What is given back shall be gone at once. By itself glibc would take the second buffer from its
 * heap, which shrinks only by chance. */
__attribute__((constructor)) static void pool_begin(void)
{
    mallopt(M_MMAP_THRESHOLD, GT_BATCH / 2);
}

static uint8_t *pool_take(void)
{
    uint8_t *buffer = pool.n_kept ? pool.kept[--pool.n_kept] : malloc(GT_BATCH);
    if (buffer)
        pool.n_held++;
    return buffer;
}

static void pool_give(uint8_t **buffer)
{
    if (!*buffer)
        return;
    pool.n_held--;
    if (pool.n_kept < KEPT_MAX)
        pool.kept[pool.n_kept++] = *buffer;
    else
        free(*buffer);
    *buffer = NULL;
}

size_t gt_batch_n_held(void)
{
    return pool.n_held;
}

void gt_batch_trim(void)
{
    while (pool.n_kept)
        free(pool.kept[--pool.n_kept]);
}

void gt_batch_init(struct gt_batch *batch, int fd)
{
    *batch = (struct gt_batch){.fd = fd, .out_max = GT_BATCH_FIRST};
}

void gt_batch_deinit(struct gt_batch *batch)
{
    pool_give(&batch->in);
    pool_give(&batch->out);
}

/* Room behind what is there already; what lies in front of it was taken. */
static int make_room(struct gt_batch *batch)
{
    if (!batch->in && !(batch->in = pool_take()))
        return -ENOMEM;
    memmove(batch->in, batch->in + batch->in_at, gt_batch_n_input(batch));
    batch->in_end -= batch->in_at;
    batch->in_at = 0;
    return 0;
}

void gt_batch_rest(struct gt_batch *batch)
{
    if (gt_batch_has_input(batch))
        return;
    batch->in_at = batch->in_end = 0;
    pool_give(&batch->in);
}

int gt_batch_fill(struct gt_batch *batch)
{
    if (batch->recv_error)
        return GT_BATCH_E_BROKEN;
    if (batch->is_eof)
        return GT_BATCH_E_EOF;
    if (batch->is_dry) {
        batch->is_dry = false;
        gt_batch_rest(batch);
        return GT_BATCH_E_AGAIN;
    }
    int r = make_room(batch);
    if (r)
        return r;
    size_t room = GT_BATCH - batch->in_end;
    ssize_t n;
    do
        n = recv(batch->fd, batch->in + batch->in_end, room, 0);
    while (n < 0 && errno == EINTR);
    int err = errno;
    if (n > 0) {
        batch->in_end += (size_t)n;
        batch->is_dry = (size_t)n < room;
        return 0;
    }
    gt_batch_rest(batch);
    if (n == 0) {
        batch->is_eof = true;
        return GT_BATCH_E_EOF;
    }
    if (err == EAGAIN)
        return GT_BATCH_E_AGAIN;
    batch->recv_error = err;
    return GT_BATCH_E_BROKEN;
}

int gt_batch_take(struct gt_batch *batch, void *ret, size_t n, size_t *ret_n)
{
    int r = gt_batch_has_input(batch) ? 0 : gt_batch_fill(batch);
    if (r)
        return r;
    n = GT_MIN(n, gt_batch_n_input(batch));
    memcpy(ret, gt_batch_input(batch), n);
    gt_batch_drop(batch, n);
    gt_batch_rest(batch);
    *ret_n = n;
    return 0;
}

size_t gt_batch_room(struct gt_batch *batch)
{
    /* What a full socket left behind is moved only when that frees at least as much as it moves. */
    if (batch->out_at >= GT_BATCH / 2) {
        memmove(batch->out, batch->out + batch->out_at, batch->out_end - batch->out_at);
        batch->out_end -= batch->out_at;
        batch->out_at = 0;
    }
    return batch->out_max - GT_MIN(batch->out_end, batch->out_max);
}

int gt_batch_reserve(struct gt_batch *batch, size_t n, uint8_t **ret)
{
    if (n > gt_batch_room(batch))
        return GT_BATCH_E_AGAIN;
    if (!batch->out && !(batch->out = pool_take()))
        return -ENOMEM;
    *ret = batch->out + batch->out_end;
    return 0;
}

int gt_batch_put(struct gt_batch *batch, const void *data, size_t n)
{
    uint8_t *room;
    int r = gt_batch_reserve(batch, n, &room);
    if (r)
        return r;
    memcpy(room, data, n);
    gt_batch_commit(batch, n);
    return 0;
}

/* Was much gathered, and taken by one call? Then the way is fast. */
static void adapt(struct gt_batch *batch, size_t n_sent)
{
    if (n_sent <= batch->out_max / 2)
        return;
    batch->is_fast = true;
    batch->out_max = GT_MIN(2 * batch->out_max, (size_t)GT_BATCH);
}

int gt_batch_flush(struct gt_batch *batch)
{
    while (gt_batch_has_output(batch) && !batch->send_error) {
        ssize_t n = send(batch->fd, batch->out + batch->out_at, batch->out_end - batch->out_at,
                         MSG_NOSIGNAL);
        if (n >= 0) {
            batch->out_at += (size_t)n;
            adapt(batch, (size_t)n);
        } else if (errno == EAGAIN) {
            batch->out_max = GT_BATCH_FIRST;
            return GT_BATCH_E_AGAIN;
        } else if (errno != EINTR) {
            batch->send_error = errno;
        }
    }
    batch->out_at = batch->out_end = 0;
    pool_give(&batch->out);
    return batch->send_error ? GT_BATCH_E_BROKEN : 0;
}
