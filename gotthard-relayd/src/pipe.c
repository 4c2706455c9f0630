/* SPDX-License-Identifier: ISC */
/*
 * Pipes and their pool. A pipe is filled only when it is empty: then EAGAIN from splice(2) can only
 * mean that the socket has nothing, and never that the pipe is full. Big pipes are a wish: beyond
 * pipe-user-pages-soft the kernel grants small ones, and those are slower than copying, so they
 * are not kept.
 */
#include "pipe.h"

#include <fcntl.h>
#include <sys/socket.h>

#define PIPE_WORTHY_SIZE (64 * 1024) /* a smaller kernel pipe is slower than a buffer */
#define PIPE_N_IDLE_MAX  16

void pipe_pool_init(struct pipe_pool *pool, enum pipe_kind kind, size_t capacity,
                    size_t n_spliced_max)
{
    *pool = (struct pipe_pool){.kind = kind, .capacity = capacity, .n_spliced_max = n_spliced_max};
}

static struct pipe *pipe_free(struct pipe_pool *pool, struct pipe *pipe)
{
    pool->n_spliced -= pipe->kind == PIPE_SPLICED;
    gt_close(&pipe->fds[0]);
    gt_close(&pipe->fds[1]);
    free(pipe->bytes);
    free(pipe);
    return NULL;
}

void pipe_pool_drain(struct pipe_pool *pool)
{
    for (struct pipe *pipe = pool->idle, *next; pipe; pipe = next) {
        next = pipe->next;
        pipe_free(pool, pipe);
    }
    pool->idle = NULL;
    pool->n_idle = 0;
}

static int pipe_open(size_t wish, int ret_fds[2], size_t *ret_capacity)
{
    int fds[2], size;

    if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
        return PIPE_E_NONE;
    size = fcntl(fds[1], F_SETPIPE_SZ, (int)wish);
    if (size < 0)
        size = fcntl(fds[1], F_GETPIPE_SZ);
    if (size < PIPE_WORTHY_SIZE) {
        gt_close(&fds[0]);
        gt_close(&fds[1]);
        return PIPE_E_NONE;
    }
    ret_fds[0] = fds[0];
    ret_fds[1] = fds[1];
    *ret_capacity = (size_t)size;
    return 0;
}

static struct pipe *pipe_new(struct pipe_pool *pool)
{
    struct pipe *pipe = calloc(1, sizeof(*pipe));

    if (!pipe)
        return NULL;
    *pipe = (struct pipe){.kind = PIPE_COPIED, .fds = {-1, -1}, .capacity = PIPE_COPIED_SIZE};
    if (pool->kind == PIPE_SPLICED && pool->n_spliced < pool->n_spliced_max &&
        !pipe_open(pool->capacity, pipe->fds, &pipe->capacity)) {
        pipe->kind = PIPE_SPLICED;
        pool->n_spliced++;
        return pipe;
    }
    pipe->bytes = malloc(pipe->capacity);
    return pipe->bytes ? pipe : pipe_free(pool, pipe);
}

int pipe_take(struct pipe_pool *pool, struct pipe **ret)
{
    struct pipe *pipe = pool->idle;

    if (pipe) {
        pool->idle = pipe->next;
        pool->n_idle--;
    } else {
        pipe = pipe_new(pool);
    }
    if (!pipe)
        return PIPE_E_NONE;
    pipe->at = pipe->n_held = 0;
    *ret = pipe;
    return 0;
}

/* Buffers are kept only by a pool of buffers: else they would be preferred to pipes for ever. */
struct pipe *pipe_give(struct pipe_pool *pool, struct pipe *pipe)
{
    if (!pipe)
        return NULL;
    if (pipe->n_held || pipe->kind != pool->kind || pool->n_idle >= PIPE_N_IDLE_MAX)
        return pipe_free(pool, pipe);
    pipe->next = pool->idle;
    pool->idle = pipe;
    pool->n_idle++;
    return NULL;
}

struct pipe *pipe_adopt_spliced(struct pipe_pool *pool, const int fds[static 2], size_t capacity,
                                size_t n_held)
{
    struct pipe *pipe = calloc(1, sizeof(*pipe));

    if (!pipe)
        return NULL;
    *pipe = (struct pipe){
        .kind = PIPE_SPLICED, .fds = {fds[0], fds[1]}, .capacity = capacity, .n_held = n_held};
    pool->n_spliced++;
    return pipe;
}

struct pipe *pipe_adopt_copied(struct pipe_pool *pool, struct gt_span bytes)
{
    struct pipe *pipe = calloc(1, sizeof(*pipe));

    if (!pipe)
        return NULL;
    *pipe = (struct pipe){.kind = PIPE_COPIED, .fds = {-1, -1}, .capacity = PIPE_COPIED_SIZE};
    pipe->bytes = malloc(pipe->capacity);
    if (!pipe->bytes || bytes.n > pipe->capacity)
        return pipe_free(pool, pipe);
    memcpy(pipe->bytes, bytes.data, bytes.n);
    pipe->n_held = bytes.n;
    return pipe;
}

/* What a failed call on a socket means to a pair. */
static int pipe_condition(int error)
{
    return error == EAGAIN || error == EINTR ? PIPE_E_AGAIN : PIPE_E_RESET;
}

int pipe_fill(struct pipe *pipe, int fd)
{
    ssize_t n;

    if (pipe->kind == PIPE_SPLICED)
        n = splice(fd, NULL, pipe->fds[1], NULL, pipe->capacity, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    else
        n = recv(fd, pipe->bytes, pipe->capacity, MSG_DONTWAIT);
    if (n < 0)
        return pipe_condition(errno);
    if (n == 0)
        return PIPE_E_END;
    pipe->at = 0;
    pipe->n_held = (size_t)n;
    return 0;
}

int pipe_pour(struct pipe *pipe, int fd)
{
    while (pipe->n_held) {
        ssize_t n;
        if (pipe->kind == PIPE_SPLICED)
            n = splice(pipe->fds[0], NULL, fd, NULL, pipe->n_held,
                       SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
        else
            n = send(fd, pipe->bytes + pipe->at, pipe->n_held, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n <= 0)
            return n < 0 ? pipe_condition(errno) : PIPE_E_RESET;
        pipe->at += (size_t)n;
        pipe->n_held -= (size_t)n;
    }
    return 0;
}
