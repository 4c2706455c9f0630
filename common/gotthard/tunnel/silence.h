/* SPDX-License-Identifier: ISC */
/*
 * Finds that the other end of a local TCP connection has vanished: its machine was switched off, or
 * its network is gone, and no FIN or RST ever arrives. While nothing is in flight, the kernel's
 * keep-alive probes find it (gt_sock_set_keepalive). While data is unacknowledged the kernel would
 * repeat it for a quarter of an hour, so a timer looks at what it knows (gt_sock_get_answers). A
 * peer that reads slowly, or not at all, acknowledges data or answers the probes of its closed
 * window, and is left alone however long that takes. TCP_USER_TIMEOUT would end it.
 */
#pragma once

#include <ev.h>

#include "gotthard/base/base.h"

struct gt_silence { /* fields are private */
    struct ev_loop *loop;
    int fd; /* borrowed; -1: not watched */
    double limit_s;
    double since;   /* gt_clock(): data has been in flight since; if ->check is active */
    ev_timer check; /* active while data is in flight */
    void (*on_vanished)(void *userdata);
    void *userdata;
};

/* @limit_s: time without an answer; 0 selects 90 s. @on_vanished: called once, from the loop. Keeps
 * @loop and @userdata. */
void gt_silence_init(struct gt_silence *silence, struct ev_loop *loop, double limit_s,
                     void (*on_vanished)(void *userdata), void *userdata);
/* Has the kernel probe @fd as gt_silence_start needs it: a connected TCP socket, or a listening
 * one, from which accepted sockets inherit it. @limit_s as in gt_silence_init. */
void gt_silence_prepare(int fd, double limit_s);
/* Watches @fd (borrows), which was prepared. A descriptor that is no TCP socket is never found
 * silent. */
void gt_silence_start(struct gt_silence *silence, int fd);
/* Stops. Call it before @fd is closed. May be called again. */
void gt_silence_stop(struct gt_silence *silence);
/* Data is in flight from now on. */
void gt_silence_begin(struct gt_silence *silence);
/* Bytes, or an end of file, were passed to the kernel. */
static inline void gt_silence_written(struct gt_silence *silence)
{
    if (!ev_is_active(&silence->check))
        gt_silence_begin(silence);
}
