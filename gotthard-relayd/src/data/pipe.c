/* SPDX-License-Identifier: ISC */
/*
 * Pipes and their pool. A pipe is filled only when it is empty. EAGAIN from splice(2) then means
 * that the socket is empty, and never that the pipe is full. The size of a pipe is a request: the
 * kernel counts the pages of all pipes of a user (pipe-user-pages-soft in pipe(7)). Beyond that
 * limit it grants tiny pipes, which are slower than copying and are not kept. The first pipes are
 * therefore large, which suits a few fast pairs. Many pairs with slow readers keep their pipes full
 * and get smaller ones.
 */
#include "data/pipe.h"

#include <fcntl.h>
#include <sys/socket.h>

#define PIPE_SIZE_MIN   (64 * 1024) /* bytes; a smaller kernel pipe is slower than a buffer */
#define PIPE_N_IDLE_MAX 16
#define PIPE_BIG_SHARE  128 /* one pipe in 128 has the full size */

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

/* Returns the size to request: the full size for the first n_big pipes, half of it for as many
 * more, a quarter for twice as many, and so on. */
static size_t pipe_wanted_size(const struct pipe_pool *pool)
{
    size_t size_wanted = pool->capacity,
           n_big = GT_MAX(pool->n_spliced_max / PIPE_BIG_SHARE, (size_t)1);

    for (size_t n = n_big; n <= pool->n_spliced && size_wanted > PIPE_SIZE_MIN; n *= 2)
        size_wanted /= 2;
    return GT_MAX(size_wanted, (size_t)PIPE_SIZE_MIN);
}

/* Requests @size_wanted bytes, then halves it until the kernel agrees. Returns the size of the pipe
 * or -1. */
static int pipe_grow(int fd, size_t size_wanted)
{
    for (; size_wanted >= PIPE_SIZE_MIN; size_wanted /= 2) {
        int size = fcntl(fd, F_SETPIPE_SZ, (int)size_wanted);

        if (size >= 0)
            return size;
    }
    return fcntl(fd, F_GETPIPE_SZ);
}

static int pipe_open(size_t size_wanted, int ret_fds[2], size_t *ret_capacity)
{
    int fds[2], size;

    if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
        return PIPE_E_NONE;
    size = pipe_grow(fds[1], size_wanted);
    if (size < PIPE_SIZE_MIN) {
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
        !pipe_open(pipe_wanted_size(pool), pipe->fds, &pipe->capacity)) {
        pipe->kind = PIPE_SPLICED;
        pool->n_spliced++;
        return pipe;
    }
    pipe->bytes = malloc(pipe->capacity);
    return pipe->bytes ? pipe : pipe_free(pool, pipe);
}

int pipe_acquire(struct pipe_pool *pool, struct pipe **ret)
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

/* Keeps the largest pipes in front, so that the small ones of a past peak are the unused ones. */
static void pipe_pool_insert(struct pipe_pool *pool, struct pipe *pipe)
{
    struct pipe **at = &pool->idle;

    while (*at && (*at)->capacity > pipe->capacity)
        at = &(*at)->next;
    pipe->next = *at;
    *at = pipe;
    pool->n_idle++;
}

/* Closes the last pipe of the list, which is the smallest. */
static void pipe_pool_drop_smallest(struct pipe_pool *pool)
{
    struct pipe **at = &pool->idle;

    while ((*at)->next)
        at = &(*at)->next;
    *at = pipe_free(pool, *at);
    pool->n_idle--;
}

/* Buffers are kept only by a pool of buffers. A pool of pipes would prefer them to pipes from then
 * on. */
struct pipe *pipe_release(struct pipe_pool *pool, struct pipe *pipe)
{
    if (!pipe)
        return NULL;
    if (pipe->n_held || pipe->kind != pool->kind)
        return pipe_free(pool, pipe);
    pipe_pool_insert(pool, pipe);
    if (pool->n_idle > PIPE_N_IDLE_MAX)
        pipe_pool_drop_smallest(pool);
    return NULL;
}

struct pipe *pipe_restore_spliced(struct pipe_pool *pool, const int fds[static 2], size_t capacity,
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

struct pipe *pipe_restore_copied(struct pipe_pool *pool, struct gt_span bytes)
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

/* Returns the condition of a failed call on a socket. */
static int pipe_condition(int error)
{
    return error == EAGAIN || error == EINTR ? PIPE_E_AGAIN : PIPE_E_RESET;
}

/* Returns true if splice(2) cannot pass an urgent byte. The socket would then stay readable
 * indefinitely, or seem to end before its last byte. Gotthard's clients send no urgent bytes. */
static bool pipe_is_at_urgent_byte(const struct pipe *pipe, int fd)
{
    return pipe->kind == PIPE_SPLICED && sockatmark(fd) == 1;
}

int pipe_fill(struct pipe *pipe, int fd)
{
    ssize_t n;

    if (pipe->kind == PIPE_SPLICED)
        n = splice(fd, NULL, pipe->fds[1], NULL, pipe->capacity, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    else
        n = recv(fd, pipe->bytes, pipe->capacity, MSG_DONTWAIT);
    int r = n < 0 ? pipe_condition(errno) : n == 0 ? PIPE_E_END : 0;
    if (r)
        return pipe_is_at_urgent_byte(pipe, fd) ? PIPE_E_RESET : r;
    pipe->at = 0;
    pipe->n_held = (size_t)n;
    return 0;
}

int pipe_empty(struct pipe *pipe, int fd)
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
