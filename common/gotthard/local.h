/* SPDX-License-Identifier: ISC */
/*
 * The local socket of a stream: read into the tx ring while there is room worth it, written out of
 * the rx ring as fast as it takes it. It is closed in order only after the stream ended well.
 * Whatever the socket does wrong breaks the stream (GT_RST_LOCAL).
 */
#pragma once

#include <ev.h>

#include "gotthard/stream.h"

/* One read makes one batch of full records. */
#define GT_LOCAL_CHUNK ((size_t)15 * GT_DATA_MAX)

enum gt_local_state {
    GT_LOCAL_NONE,  /* a spare, or a device that was not asked yet */
    GT_LOCAL_ASKED, /* device: the service is being connected */
    GT_LOCAL_OPEN,
    GT_LOCAL_CLOSED,
};

struct gt_local {
    struct ev_loop *loop;
    struct gt_stream *stream; /* keeps */
    enum gt_local_state state;
    int fd; /* owned */
    ev_io reader, writer;
    void (*on_event)(void *userdata, int revents);
    void *userdata;
};

/* @on_event: the socket can be read, or written again (EV_READ or EV_WRITE). */
void gt_local_init(struct gt_local *local, struct ev_loop *loop, struct gt_stream *stream,
                   void (*on_event)(void *userdata, int revents), void *userdata);
void gt_local_open(struct gt_local *local, int fd); /* takes */
/* In order if the stream ENDED, with an RST otherwise: a cut stream never looks like a whole one.
 */
void gt_local_close(struct gt_local *local);
/* Starts and stops the watchers as the rings stand. */
void gt_local_watch(struct gt_local *local);

/* One read into the tx ring (which must have room). Could there be more? */
bool gt_local_read(struct gt_local *local);
/* One write of all that the rx ring has, and after the last of it the end. */
void gt_local_write(struct gt_local *local);
/* The last write was not taken whole: EV_WRITE comes when more can be. */
static inline bool gt_local_is_full(const struct gt_local *local)
{
    return ev_is_active(&local->writer);
}
