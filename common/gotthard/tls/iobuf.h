/* SPDX-License-Identifier: ISC */
/*
 * An input and an output buffer of GT_IOBUF_SIZE bytes between a socket and TLS, for large system
 * calls with small records. One recv() reads all available bytes, one send() writes all buffered
 * ones. The buffers come from a thread-local pool and are held only while they contain bytes, so
 * that an idle connection has none. It never raises SIGPIPE, never blocks and never grows.
 */
#pragma once

#include "gotthard/base/base.h"

#define GT_IOBUF_SIZE (256 * 1024) /* bytes; with 128 KiB, the cost per byte was 10 % higher */
/* Bytes of output that are buffered at first, until the socket accepts more at once. */
#define GT_IOBUF_FIRST (64 * 1024)

struct gt_iobuf_use { /* of a buffer */
    size_t n;         /* bytes from its beginning that are not wiped yet */
    unsigned n_wipes; /* of the pool, when the buffer was taken */
};

struct gt_iobuf {
    int fd;            /* borrows */
    uint8_t *in, *out; /* from the pool, or NULL */
    size_t in_at, in_end, out_at, out_end;
    struct gt_iobuf_use in_use, out_use; /* of each buffer */
    size_t out_max; /* limit of buffered output: more would only wait for a slow path */
    bool is_dry;    /* the last recv() emptied the socket: the next one would return EAGAIN */
    bool is_eof;    /* the peer shut down its direction */
    bool is_fast;   /* the socket once accepted a large amount in one call */
    int recv_error; /* errno, or 0 */
    int send_error; /* errno, or 0 */
};

enum {
    GT_IOBUF_E_AGAIN = 1, /* no input, or no room */
    GT_IOBUF_E_EOF,
    GT_IOBUF_E_BROKEN, /* see ->recv_error or ->send_error */
};

void gt_iobuf_init(struct gt_iobuf *iobuf, int fd);
/* Returns its buffers, and wipes those of the pool. */
void gt_iobuf_deinit(struct gt_iobuf *iobuf);
/* Wipes the buffers that the pool keeps, and any other one when it returns: input is decrypted in
 * place. To be called when a stream ends, whose plaintext they may have. */
void gt_iobuf_wipe(void);

/*
 * Reads up to @n bytes. After a recv() that did not fill the buffer, the next call returns E_AGAIN
 * without a system call. The caller must wait level-triggered, so that later bytes wake it up.
 * Returns 0, GT_IOBUF_E_x or -ENOMEM.
 */
int gt_iobuf_read(struct gt_iobuf *iobuf, void *ret, size_t n, size_t *ret_n) GT_MUST_CHECK;
/* Appends the bytes of one recv(), at most @n_max (1 or more), to the input, which must be less
 * than GT_IOBUF_SIZE. Returns as gt_iobuf_read(). */
int gt_iobuf_fill(struct gt_iobuf *iobuf, size_t n_max) GT_MUST_CHECK;
/* Returns the input, which is contiguous and may be modified. It is valid, including dropped bytes,
 * until the next call that reads or releases input. */
static inline uint8_t *gt_iobuf_input(const struct gt_iobuf *iobuf)
{
    return iobuf->in + iobuf->in_at;
}
/* Removes the first @n bytes of the input. */
static inline void gt_iobuf_drop(struct gt_iobuf *iobuf, size_t n)
{
    iobuf->in_at += n;
}
/* Returns an empty input buffer to the pool. */
void gt_iobuf_release_input(struct gt_iobuf *iobuf);
static inline size_t gt_iobuf_n_input(const struct gt_iobuf *iobuf)
{
    return iobuf->in_end - iobuf->in_at;
}
static inline bool gt_iobuf_has_input(const struct gt_iobuf *iobuf)
{
    return gt_iobuf_n_input(iobuf) > 0;
}

/* Returns the number of bytes that gt_iobuf_put() accepts now. */
size_t gt_iobuf_room(struct gt_iobuf *iobuf);
/* Appends all @n bytes to the output, or none. Returns 0, E_AGAIN (no room) or -ENOMEM. */
int gt_iobuf_put(struct gt_iobuf *iobuf, const void *data, size_t n) GT_MUST_CHECK;
/* Returns room for @n contiguous bytes of output. gt_iobuf_commit() then appends them. Returns 0,
 * E_AGAIN (no room) or -ENOMEM. */
int gt_iobuf_reserve(struct gt_iobuf *iobuf, size_t n, uint8_t **ret) GT_MUST_CHECK;
static inline void gt_iobuf_commit(struct gt_iobuf *iobuf, size_t n)
{
    iobuf->out_end += n;
}
/* Sends the output. Returns 0, E_AGAIN (wait until the socket is writable) or E_BROKEN. */
int gt_iobuf_flush(struct gt_iobuf *iobuf) GT_MUST_CHECK;
static inline bool gt_iobuf_has_output(const struct gt_iobuf *iobuf)
{
    return iobuf->out_at < iobuf->out_end;
}

/* Returns the number of buffers that connections of this thread hold. */
size_t gt_iobuf_n_held(void);
/* Frees the few buffers that the pool keeps for reuse. For a thread that ends or is idle. */
void gt_iobuf_trim(void);
