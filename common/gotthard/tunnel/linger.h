/* SPDX-License-Identifier: ISC */
/*
 * The reset of a local endpoint, after the peer's local socket was reset or when this one was. The
 * application first gets every byte that the peer sent before. A reset drops what the kernel has
 * not delivered, so the endpoint stays open until the application's kernel acknowledged the last
 * byte. An application that takes nothing for some time loses the remainder.
 */
#pragma once

#include "gotthard/proto/stream.h"
#include "gotthard/tunnel/endpoint.h"

struct gt_linger {
    struct ev_loop *loop;
    struct gt_stream *stream;     /* borrows */
    struct gt_endpoint *endpoint; /* borrows */
    double limit_s;               /* without progress */
    uint64_t n_taken;             /* offset up to which the application's kernel has the bytes */
    double since;                 /* of the last progress, by gt_clock() */
    double pause_s;               /* before the next look; 0: nothing is waited for */
    ev_timer again;
};

#define GT_LINGER_S 30. /* default of the limit, in seconds */

/* Borrows both. @limit_s: 0: GT_LINGER_S. @on_again with @userdata: gt_linger_update is due. */
void gt_linger_init(struct gt_linger *linger, struct ev_loop *loop, struct gt_stream *stream,
                    struct gt_endpoint *endpoint, double limit_s,
                    void (*on_again)(struct ev_loop *loop, ev_timer *watcher, int revents),
                    void *userdata);
void gt_linger_deinit(struct gt_linger *linger);
/* Resets the endpoint if that is due, and reports it to the stream. Otherwise on_again comes later.
 * Call it after each event of stream or endpoint, when received bytes were written. */
void gt_linger_update(struct gt_linger *linger);
