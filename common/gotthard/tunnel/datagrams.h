/* SPDX-License-Identifier: ISC */
/*
 * Datagrams over a byte stream: a u16 length and its bytes each (docs/protocol.md, section 4). One
 * end of a socket pair is a stream's local socket, the other end is here, so that the stream itself
 * is like any other. Boundaries and order are kept. A datagram is dropped when the stream takes no
 * more bytes, as a full queue of a router would, and never delays others.
 */
#pragma once

#include <ev.h>

#include "gotthard/base/base.h"

#define GT_DATAGRAM_MAX    65507 /* bytes of UDP over IPv4 */
#define GT_DATAGRAM_IDLE_S 60.   /* without a datagram either way, until the end */

struct gt_datagrams;

struct gt_datagrams_events {
    /* A datagram of 0 to GT_DATAGRAM_MAX bytes arrived over the stream. Do not free inside. */
    void (*on_datagram)(void *userdata, const uint8_t *data, size_t n);
    /* The stream has ended, has sent a wrong length, or was idle. The last callback: free inside it
     * or later. */
    void (*on_end)(void *userdata);
};

/* Takes @fd, a non-blocking stream socket, also on failure. Keeps @events. @idle_s: 0:
 * GT_DATAGRAM_IDLE_S. -ENOMEM. */
int gt_datagrams_new(struct ev_loop *loop, int fd, double idle_s,
                     const struct gt_datagrams_events *events, void *userdata,
                     struct gt_datagrams **ret) GT_MUST_CHECK;
/* Ends the stream in order. Takes NULL; returns NULL. */
struct gt_datagrams *gt_datagrams_free(struct gt_datagrams *datagrams);
/* Sends a datagram of at most GT_DATAGRAM_MAX bytes. Returns false if it was dropped. */
bool gt_datagrams_send(struct gt_datagrams *datagrams, const uint8_t *data, size_t n);
