/* SPDX-License-Identifier: ISC */
/*
 * Where bytes are while they are between two sockets: a kernel pipe that splice(2) fills and
 * empties without copying, or a buffer where that is switched off or no pipe can be had. Pipes come
 * from a pool of the plane and are held only while bytes are in them, so that an idle pair costs
 * its two descriptors and nothing else. Who uses a pipe does not see which kind it is.
 */
#pragma once

#include "gotthard/bytes.h"

#define PIPE_COPIED_SIZE (128 * 1024)

enum pipe_kind { PIPE_SPLICED, PIPE_COPIED };

struct pipe {
    enum pipe_kind kind;
    int fds[2];     /* SPLICED: read end, write end */
    uint8_t *bytes; /* COPIED */
    size_t capacity;
    size_t at, n_held; /* COPIED: where the bytes begin; both: how many are inside */
    struct pipe *next; /* in the pool */
};

struct pipe_pool {
    enum pipe_kind kind;
    size_t capacity; /* of the first kernel pipes, if the kernel grants it */
    size_t n_spliced, n_spliced_max;
    size_t n_idle;
    struct pipe *idle; /* the biggest first */
};

enum {
    PIPE_E_AGAIN = 1, /* the socket has nothing, or takes nothing now */
    PIPE_E_END,       /* fill: the peer sent its FIN */
    PIPE_E_RESET,     /* the socket is broken */
    PIPE_E_NONE,      /* take: neither a pipe nor memory is to be had */
};

void pipe_pool_init(struct pipe_pool *pool, enum pipe_kind kind, size_t capacity,
                    size_t n_spliced_max);
/* Closes the idle ones: at the end, and whenever a plane has no pair left to use them. */
void pipe_pool_drain(struct pipe_pool *pool);
/* E_NONE. */
int pipe_take(struct pipe_pool *pool, struct pipe **ret) GT_MUST_CHECK;
/* Returns NULL. A pipe with bytes left inside is not used again. NULL is fine. */
struct pipe *pipe_give(struct pipe_pool *pool, struct pipe *pipe);

/* One that another image of the relay has filled. Takes @fds; copies @bytes. NULL: no memory. */
struct pipe *pipe_adopt_spliced(struct pipe_pool *pool, const int fds[static 2], size_t capacity,
                                size_t n_held);
struct pipe *pipe_adopt_copied(struct pipe_pool *pool, struct gt_span bytes);

/* Once from the socket into an empty pipe. E_AGAIN, E_END, E_RESET. */
int pipe_fill(struct pipe *pipe, int fd) GT_MUST_CHECK;
/* All into the socket. E_AGAIN (some are left), E_RESET. */
int pipe_pour(struct pipe *pipe, int fd) GT_MUST_CHECK;
