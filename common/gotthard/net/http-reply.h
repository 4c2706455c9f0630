/* SPDX-License-Identifier: ISC */
/*
 * The head of a proxy's answer to CONNECT (RFC 9110, section 9.3.6; RFC 9112, sections 2 to 5):
 * status line and header fields, up to the empty line. Pure: bytes in, and it reports how many of
 * them belong to the head, because the next one belongs to the tunnel. Accepts HTTP/1.0 and 1.1,
 * bare LF, and interim answers (1xx) before the final one.
 */
#pragma once

#include "gotthard/base/bytes.h"

#define GT_HTTP_REPLY_MAX    8192 /* bytes of all heads */
#define GT_HTTP_REPLY_REASON 64   /* bytes of the reason phrase with its NUL; truncated */

enum gt_http_reply_state {
    GT_HTTP_REPLY_MORE, /* the head is incomplete */
    GT_HTTP_REPLY_DONE,
    GT_HTTP_REPLY_BAD,      /* not HTTP/1 */
    GT_HTTP_REPLY_TOO_LONG, /* GT_HTTP_REPLY_MAX */
};

struct gt_http_reply { /* zero-initialize */
    enum gt_http_reply_state state;
    unsigned code;                     /* 100 to 999; 0: no status line yet */
    char reason[GT_HTTP_REPLY_REASON]; /* printable */
    bool has_challenge;                /* Proxy-Authenticate, ... */
    bool has_basic;                    /* ... one of them for Basic (RFC 7617) */
    size_t n_bytes;                    /* of all heads so far */
    char line[96];                     /* the current one, truncated, */
    size_t n_line;                     /* and its bytes without CR and LF */
};

/* Takes bytes of the head. Returns how many of @bytes belong to it: all of them while ->state is
 * MORE. */
size_t gt_http_reply_feed(struct gt_http_reply *reply, struct gt_span bytes);
