/* SPDX-License-Identifier: ISC */
/*
 * A kernel pipe is inherited with its content; a buffer is copied into the snapshot. The deadline
 * is saved as a time of the clock, which continues across the upgrade.
 */
#include "data/pair-snapshot.h"

#include "gotthard/base/clock.h"

#define PIPE_CAPACITY_MAX (1u << 30)

/* --- layout ----------------------------------------------------------------------------------- */

static bool pipe_is_valid(const struct saved_pipe *pipe)
{
    bool has_fds = pipe->fds[0] >= 0 && pipe->fds[1] >= 0;
    bool has_no_fds = pipe->fds[0] < 0 && pipe->fds[1] < 0;

    switch (pipe->kind) {
    case SAVED_NO_PIPE: return has_no_fds && !pipe->n && !pipe->capacity && !pipe->bytes.n;
    case SAVED_SPLICED:
        return has_fds && pipe->n && pipe->n <= pipe->capacity &&
               pipe->capacity <= PIPE_CAPACITY_MAX && !pipe->bytes.n;
    case SAVED_COPIED:
        return has_no_fds && !pipe->n && !pipe->capacity && pipe->bytes.n &&
               pipe->bytes.n <= PIPE_COPIED_SIZE;
    }
    return false;
}

/* A direction that has ended has no bytes left. */
static bool side_is_valid(const struct saved_side *side)
{
    return side->flow <= FLOW_SHUT && pipe_is_valid(&side->pipe) &&
           (side->pipe.kind == SAVED_NO_PIPE || side->flow == FLOW_OPEN);
}

static bool pair_is_valid(const void *record)
{
    const struct saved_pair *pair = record;
    const struct saved_side *a = &pair->sides[0], *b = &pair->sides[1];
    int n_joined = (a->fd >= 0) + (b->fd >= 0);
    int n_shut = (a->flow == FLOW_SHUT) + (b->flow == FLOW_SHUT);
    int n_pipes = (a->pipe.kind != SAVED_NO_PIPE) + (b->pipe.kind != SAVED_NO_PIPE);

    if (!side_is_valid(a) || !side_is_valid(b))
        return false;
    switch (pair->state) {
    case PAIR_ONE_JOINED: return n_joined == 1 && !n_shut && !n_pipes;
    case PAIR_SPLICING: return n_joined == 2 && !n_shut;
    case PAIR_HALF_CLOSED: return n_joined == 2 && n_shut == 1;
    case PAIR_CLOSED: return false;
    }
    return false;
}

#define SIDE_FIELDS(i)                                                \
    GT_FIELD_BYTES(struct saved_pair, sides[i].source, QUOTA_SOURCE), \
        GT_FIELD_U32(struct saved_pair, sides[i].flow),               \
        GT_FIELD_U64(struct saved_pair, sides[i].n_bytes),            \
        GT_FIELD_U32(struct saved_pair, sides[i].pipe.kind),          \
        GT_FIELD_U32(struct saved_pair, sides[i].pipe.n),             \
        GT_FIELD_U32(struct saved_pair, sides[i].pipe.capacity),      \
        GT_FIELD_LONG_SPAN(struct saved_pair, sides[i].pipe.bytes)

static const struct gt_field pair_fields[] = {
    GT_FIELD_U32(struct saved_pair, state),
    GT_FIELD_U32(struct saved_pair, stream),
    GT_FIELD_U32(struct saved_pair, attempt),
    GT_FIELD_U64(struct saved_pair, deadline),
    GT_FIELD_U64(struct saved_pair, n_moved_at_deadline),
    SIDE_FIELDS(0),
    SIDE_FIELDS(1),
};

static const struct saved_fd pair_fds[] = {
    SAVED_OPTIONAL_SOCKET(struct saved_pair, sides[0].fd),
    SAVED_OPTIONAL_PIPE(struct saved_pair, sides[0].pipe.fds[0]),
    SAVED_OPTIONAL_PIPE(struct saved_pair, sides[0].pipe.fds[1]),
    SAVED_OPTIONAL_SOCKET(struct saved_pair, sides[1].fd),
    SAVED_OPTIONAL_PIPE(struct saved_pair, sides[1].pipe.fds[0]),
    SAVED_OPTIONAL_PIPE(struct saved_pair, sides[1].pipe.fds[1]),
};

const struct saved_layout pair_layout = {SAVED_LAYOUT(PAIR, pair_fields),
                                         SAVED_LAYOUT_FDS(pair_fds), .is_valid = pair_is_valid};

/* --- saving ----------------------------------------------------------------------------------- */

static struct saved_pipe pipe_save(const struct pipe *pipe)
{
    struct saved_pipe saved = {.kind = SAVED_NO_PIPE, .fds = {-1, -1}};

    if (!pipe || !pipe->n_held)
        return saved;
    if (pipe->kind == PIPE_COPIED) {
        saved.kind = SAVED_COPIED;
        saved.bytes = gt_span(pipe->bytes + pipe->at, pipe->n_held);
    } else {
        saved = (struct saved_pipe){.kind = SAVED_SPLICED,
                                    .fds = {pipe->fds[0], pipe->fds[1]},
                                    .n = (uint32_t)pipe->n_held,
                                    .capacity = (uint32_t)pipe->capacity};
    }
    return saved;
}

void pair_save(struct pair *pair, struct gt_writer *writer)
{
    uint64_t left_ms = pair_deadline_left_ms(pair);
    struct saved_pair saved = {
        .state = pair->state,
        .stream = pair->stream,
        .attempt = pair->attempt,
        .deadline = left_ms == GT_CLOCK_NEVER ? GT_CLOCK_NEVER : gt_clock_ms() + left_ms,
        .n_moved_at_deadline = pair->n_moved_at_deadline,
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(pair->sides); i++) {
        const struct pair_side *side = &pair->sides[i];
        struct saved_side *to = &saved.sides[i];

        to->fd = side->fd;
        memcpy(to->source, side->charge.source, sizeof(to->source));
        to->flow = side->flow;
        to->n_bytes = side->n_bytes;
        to->pipe = pipe_save(side->pipe);
    }
    saved_layout_write(&pair_layout, writer, &saved);
}

/* --- restoring -------------------------------------------------------------------------------- */

static int pipe_restore(struct pipe_pool *pool, const struct saved_pipe *saved, struct pipe **ret)
{
    switch (saved->kind) {
    case SAVED_NO_PIPE: return 0;
    case SAVED_SPLICED:
        *ret = pipe_restore_spliced(pool, saved->fds, saved->capacity, saved->n);
        break;
    case SAVED_COPIED: *ret = pipe_restore_copied(pool, saved->bytes); break;
    }
    return *ret ? 0 : -ENOMEM;
}

static int side_restore(struct pair_side *side, const struct saved_side *saved, struct quota *quota)
{
    side->flow = saved->flow;
    side->n_bytes = saved->n_bytes;
    if (saved->fd < 0)
        return 0;
    side->fd = saved->fd;
    quota_restore_charge(quota, saved->source, &side->charge);
    return pipe_restore(side->pair->pool, &saved->pipe, &side->pipe);
}

int pair_restore(struct pair *pair, const struct saved_pair *saved, struct quota *quota)
{
    uint64_t now = gt_clock_ms();

    pair->state = saved->state;
    pair->n_moved_at_deadline = saved->n_moved_at_deadline;
    for (size_t i = 0; i < GT_ARRAY_SIZE(pair->sides); i++)
        if (side_restore(&pair->sides[i], &saved->sides[i], quota))
            return -ENOMEM;
    pair_resume(pair, saved->deadline == GT_CLOCK_NEVER ? GT_CLOCK_NEVER
                      : saved->deadline > now           ? saved->deadline - now
                                                        : 1);
    return 0;
}
