/* SPDX-License-Identifier: ISC */
/*
 * Large system calls for small records: a socket with one input and one output buffer of GT_BATCH
 * bytes between it and TLS. One recv() takes as much as there is, one send() gives as much as was
 * put in. The buffers come from a pool of the thread and are held only while bytes are in them, so
 * that an idle connection costs none. Never raises SIGPIPE, never blocks, never grows.
 */
#pragma once

#include "gotthard/base.h"

#define GT_BATCH (256 * 1024) /* 128 KiB costs a tenth more */
/* What is put out at first, until the socket shows that it takes more. */
#define GT_BATCH_FIRST (64 * 1024)

struct gt_batch {
    int fd;            /* borrows */
    uint8_t *in, *out; /* from the pool, or NULL */
    size_t in_at, in_end, out_at, out_end;
    size_t out_max; /* what is gathered for one send(): what a slow way has not taken waits here */
    bool is_dry;    /* the last recv() took all there was: the next one would say EAGAIN */
    bool is_eof;    /* the peer sends no more */
    bool is_fast;   /* much was once given to the socket at once, and taken */
    int recv_error; /* errno; 0: none */
    int send_error;
};

enum {
    GT_BATCH_E_AGAIN = 1,
    GT_BATCH_E_EOF,
    GT_BATCH_E_BROKEN, /* ->recv_error or ->send_error */
};

void gt_batch_init(struct gt_batch *batch, int fd);
void gt_batch_deinit(struct gt_batch *batch);

/*
 * Takes up to @n bytes. After a recv() that did not fill the buffer the next one is spared and
 * E_AGAIN said at once: the caller waits level-triggered, so what came meanwhile wakes it.
 */
int gt_batch_take(struct gt_batch *batch, void *ret, size_t n, size_t *ret_n) GT_MUST_CHECK;
/*
 * One recv(), behind what is there already (less than GT_BATCH). The conditions are those of
 * gt_batch_take.
 */
int gt_batch_fill(struct gt_batch *batch) GT_MUST_CHECK;
/* What is there, in one piece: it may be changed, and stays where it is, also what is dropped,
 * until the next call but gt_batch_drop that takes input. */
static inline uint8_t *gt_batch_input(const struct gt_batch *batch)
{
    return batch->in + batch->in_at;
}
static inline void gt_batch_drop(struct gt_batch *batch, size_t n)
{
    batch->in_at += n;
}
/* Gives the input buffer back, if all was dropped. */
void gt_batch_rest(struct gt_batch *batch);
static inline size_t gt_batch_n_input(const struct gt_batch *batch)
{
    return batch->in_end - batch->in_at;
}
static inline bool gt_batch_has_input(const struct gt_batch *batch)
{
    return gt_batch_n_input(batch) > 0;
}

/* How much gt_batch_put would take now. */
size_t gt_batch_room(struct gt_batch *batch);
/* All of it, or E_AGAIN (no room) and nothing. -ENOMEM. */
int gt_batch_put(struct gt_batch *batch, const void *data, size_t n) GT_MUST_CHECK;
/* Where @n bytes may be written in one piece, and gt_batch_commit makes them output. E_AGAIN,
 * -ENOMEM. */
int gt_batch_reserve(struct gt_batch *batch, size_t n, uint8_t **ret) GT_MUST_CHECK;
static inline void gt_batch_commit(struct gt_batch *batch, size_t n)
{
    batch->out_end += n;
}
/* E_AGAIN: some is left, wait for writable. */
int gt_batch_flush(struct gt_batch *batch) GT_MUST_CHECK;
static inline bool gt_batch_has_output(const struct gt_batch *batch)
{
    return batch->out_at < batch->out_end;
}

/* Buffers that connections of this thread hold now. */
size_t gt_batch_n_held(void);
/* Frees the few buffers the pool keeps for the next connection: for a thread that ends, or has
 * little to do. */
void gt_batch_trim(void);
