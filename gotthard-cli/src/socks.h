/* SPDX-License-Identifier: ISC */
/*
 * One negotiation of SOCKS5 (RFC 1928) on the server's side: methods, then a request. CONNECT
 * without authentication to an IPv4 address, an IPv6 address or a name, which the device resolves.
 * BIND and UDP ASSOCIATE are answered "command not supported", and SOCKS4 is not spoken.
 *
 * Pure: bytes in, bytes out. It asks for exactly the bytes of the negotiation, so that those which
 * a client sends after its request stay unread for the stream.
 */
#pragma once

#include "gotthard/base/text.h"
#include "gotthard/proto/frame.h"

enum socks_state {
    SOCKS_METHODS_HEAD, /* version, number of methods */
    SOCKS_METHODS,
    SOCKS_REQUEST_HEAD, /* version, command, reserved, type of the address, its first byte */
    SOCKS_REQUEST,
    SOCKS_READY,  /* ->target is known: the owner answers with socks_reply() */
    SOCKS_FAILED, /* after ->out, if there is any, the connection is to be closed */
};

#define SOCKS_IN_MAX  262 /* the longest request: a name of 255 bytes */
#define SOCKS_OUT_MAX 10

struct socks { /* a zeroed one has begun */
    enum socks_state state;
    uint8_t in[SOCKS_IN_MAX]; /* of the present message */
    size_t n_in;
    uint8_t out[SOCKS_OUT_MAX]; /* to be sent now; the owner sets ->n_out to 0 */
    size_t n_out;
    char target[GT_SERVICE_MAX + 1]; /* "10.0.0.5:80", "[fd00::1]:22", "plc.local:102" */
};

/* Returns how many bytes are needed next, from 1 on; 0: READY or FAILED. */
size_t socks_wanted(const struct socks *socks);
/* Takes @n bytes, at most socks_wanted(). */
void socks_consume(struct socks *socks, const uint8_t *data, size_t n);

/* Replies of RFC 1928, section 6. */
enum socks_reply {
    SOCKS_SUCCEEDED = 0,
    SOCKS_GENERAL = 1,
    SOCKS_NOT_ALLOWED = 2,
    SOCKS_UNREACHABLE = 4,
    SOCKS_REFUSED = 5,
    SOCKS_TIMED_OUT = 6,
    SOCKS_COMMAND = 7,
    SOCKS_ADDRESS_TYPE = 8,
};

/* Returns the reply for a stream that ended by @code before its target was connected. */
enum socks_reply socks_reply_of(enum gt_rst code);
/* Writes a reply with the address 0.0.0.0:0: that of the device is not revealed. Returns its size.
 */
size_t socks_write_reply(enum socks_reply reply, uint8_t ret[static SOCKS_OUT_MAX]);
