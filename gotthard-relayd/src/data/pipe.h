/* SPDX-License-Identifier: ISC */
/*
 * Storage for the bytes between two sockets. It is a kernel pipe, which splice(2) fills and empties
 * without copying. It is a buffer if splicing is switched off or no pipe is available. Pipes come
 * from a pool of their data thread and are held only while they contain bytes, so that an idle pair
 * costs two descriptors and nothing else. The interface hides the kind of a pipe.
 */
#pragma once

#include "gotthard/base/bytes.h"

#define PIPE_COPIED_SIZE (128 * 1024)

enum pipe_kind { PIPE_SPLICED, PIPE_COPIED };

struct pipe {
    enum pipe_kind kind;
    int fds[2];     /* SPLICED: read end, write end */
    uint8_t *bytes; /* COPIED */
    size_t capacity;
    size_t at, n_held; /* offset of the first byte (COPIED); number of bytes inside */
    struct pipe *next; /* in the pool */
};

struct pipe_pool {
    enum pipe_kind kind;
    size_t capacity; /* bytes; of the first kernel pipes, if the kernel grants it */
    size_t n_spliced, n_spliced_max;
    size_t n_idle;
    struct pipe *idle; /* the largest first */
};

enum {
    PIPE_E_AGAIN = 1, /* the socket would block */
    PIPE_E_END,       /* fill: the peer sent a FIN */
    PIPE_E_RESET,     /* the socket is broken */
    PIPE_E_NONE,      /* acquire: neither a pipe nor memory is available */
};

/* @capacity: bytes of a large pipe. @n_spliced_max: kernel pipes at once, 0 for SPLICED means
 * buffers only. */
void pipe_pool_init(struct pipe_pool *pool, enum pipe_kind kind, size_t capacity,
                    size_t n_spliced_max);
/* Closes the idle pipes. For the end, and for a data thread that has no pairs left. */
void pipe_pool_drain(struct pipe_pool *pool);
/* Returns an empty pipe of the caller's in *@ret. E_NONE. */
int pipe_acquire(struct pipe_pool *pool, struct pipe **ret) GT_MUST_CHECK;
/* Returns @pipe to its pool. A pipe that still contains bytes is closed, so that they never reach
 * another pair. Accepts NULL; returns NULL. */
struct pipe *pipe_release(struct pipe_pool *pool, struct pipe *pipe);

/* Rebuild a pipe that the relay filled before an upgrade. Return NULL if out of memory. The first
 * takes @fds if it succeeds; the second copies @bytes, at most PIPE_COPIED_SIZE. */
struct pipe *pipe_restore_spliced(struct pipe_pool *pool, const int fds[static 2], size_t capacity,
                                  size_t n_held);
struct pipe *pipe_restore_copied(struct pipe_pool *pool, struct gt_span bytes);

/* Moves bytes from socket @fd into an empty pipe with one system call. E_AGAIN, E_END, E_RESET. */
int pipe_fill(struct pipe *pipe, int fd) GT_MUST_CHECK;
/* Moves all bytes into socket @fd. E_AGAIN: some are left. E_RESET. */
int pipe_empty(struct pipe *pipe, int fd) GT_MUST_CHECK;
