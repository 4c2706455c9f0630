/* SPDX-License-Identifier: ISC */
/*
 * The states of the negotiation. Each waits for a number of bytes that is known in advance; the
 * handler of the state then moves on. A client that speaks another protocol fails at its first
 * byte, and gets no answer.
 */
#include "socks.h"

#include <arpa/inet.h>
#include <stdio.h>

#define VERSION       5
#define METHOD_NONE   0x00
#define METHOD_REFUSE 0xff
#define CONNECT       1

#define TYPE_IPV4 1
#define TYPE_NAME 3
#define TYPE_IPV6 4

#define HEAD 5 /* bytes of SOCKS_REQUEST_HEAD */

/* Returns the size of the whole message of this state; 0: none is awaited. */
static size_t message_size(const struct socks *socks)
{
    switch (socks->state) {
    case SOCKS_METHODS_HEAD: return 2;
    case SOCKS_METHODS: return 2 + (size_t)socks->in[1];
    case SOCKS_REQUEST_HEAD: return HEAD;
    case SOCKS_REQUEST:
        switch (socks->in[3]) {
        case TYPE_IPV4: return 4 + 4 + 2;
        case TYPE_IPV6: return 4 + 16 + 2;
        default: return 4 + 1 + (size_t)socks->in[4] + 2;
        }
    case SOCKS_READY:
    case SOCKS_FAILED: break;
    }
    return 0;
}

size_t socks_wanted(const struct socks *socks)
{
    return message_size(socks) - GT_MIN(socks->n_in, message_size(socks));
}

static void socks_fail(struct socks *socks, enum socks_reply reply)
{
    socks->n_out = socks_write_reply(reply, socks->out);
    socks->state = SOCKS_FAILED;
}

static void socks_on_methods(struct socks *socks)
{
    bool is_offered = memchr(socks->in + 2, METHOD_NONE, socks->in[1]) != NULL;

    socks->out[0] = VERSION;
    socks->out[1] = is_offered ? METHOD_NONE : METHOD_REFUSE;
    socks->n_out = 2;
    socks->n_in = 0;
    socks->state = is_offered ? SOCKS_REQUEST_HEAD : SOCKS_FAILED;
}

static void socks_on_request_head(struct socks *socks)
{
    uint8_t type = socks->in[3];

    if (socks->in[0] != VERSION || socks->in[2] != 0)
        socks_fail(socks, SOCKS_GENERAL);
    else if (socks->in[1] != CONNECT)
        socks_fail(socks, SOCKS_COMMAND);
    else if (type != TYPE_IPV4 && type != TYPE_IPV6 && type != TYPE_NAME)
        socks_fail(socks, SOCKS_ADDRESS_TYPE);
    else if (type == TYPE_NAME && socks->in[4] == 0)
        socks_fail(socks, SOCKS_GENERAL);
    else
        socks->state = SOCKS_REQUEST;
}

/* Writes the host of the request. Returns false if it is none. */
static bool get_host(const struct socks *socks, char ret[static 256])
{
    if (socks->in[3] == TYPE_IPV4)
        return inet_ntop(AF_INET, socks->in + 4, ret, 256) != NULL;
    if (socks->in[3] == TYPE_IPV6)
        return inet_ntop(AF_INET6, socks->in + 4, ret, 256) != NULL;
    memcpy(ret, socks->in + 5, socks->in[4]);
    ret[socks->in[4]] = 0;
    return strlen(ret) == socks->in[4] && gt_text_is_host(ret);
}

static void socks_on_request(struct socks *socks)
{
    const uint8_t *end = socks->in + socks->n_in;
    unsigned port = (unsigned)end[-2] << 8 | end[-1];
    char host[256];

    if (!get_host(socks, host) || port == 0) {
        socks_fail(socks, SOCKS_GENERAL);
        return;
    }
    gt_text_unroot_host(host);
    bool is_ipv6 = strchr(host, ':') != NULL;
    int n =
        snprintf(socks->target, sizeof(socks->target), is_ipv6 ? "[%s]:%u" : "%s:%u", host, port);
    if (n < 0 || (size_t)n >= sizeof(socks->target))
        socks_fail(socks, SOCKS_GENERAL);
    else
        socks->state = SOCKS_READY;
}

static void socks_on_message(struct socks *socks)
{
    switch (socks->state) {
    case SOCKS_METHODS_HEAD:
        socks->state = socks->in[0] == VERSION ? SOCKS_METHODS : SOCKS_FAILED;
        break;
    case SOCKS_METHODS: socks_on_methods(socks); break;
    case SOCKS_REQUEST_HEAD: socks_on_request_head(socks); break;
    case SOCKS_REQUEST: socks_on_request(socks); break;
    case SOCKS_READY:
    case SOCKS_FAILED: break;
    }
}

/* The last message of a state may be complete without a further byte: no methods. */
void socks_consume(struct socks *socks, const uint8_t *data, size_t n)
{
    n = GT_MIN(n, socks_wanted(socks));
    memcpy(socks->in + socks->n_in, data, n);
    socks->n_in += n;
    while (message_size(socks) > 0 && socks_wanted(socks) == 0)
        socks_on_message(socks);
}

enum socks_reply socks_reply_of(enum gt_rst code)
{
    switch (code) {
    case GT_RST_REFUSED: return SOCKS_REFUSED;
    case GT_RST_DENIED:
    case GT_RST_WITHDRAWN: return SOCKS_NOT_ALLOWED;
    case GT_RST_UNREACHABLE:
    case GT_RST_NO_NAME:
    case GT_RST_NO_RESOLVER: return SOCKS_UNREACHABLE;
    case GT_RST_TIMEOUT:
    case GT_RST_EXPIRED: return SOCKS_TIMED_OUT;
    case GT_RST_NONE:
    case GT_RST_LOCAL:
    case GT_RST_RESYNC:
    case GT_RST_PROTOCOL:
    case GT_RST_CLOSED:
    case GT_RST_INTERNAL:
    case GT_RST_LOST:
    case GT_RST_TARGET_VANISHED:
    case GT_RST_CLIENT_VANISHED:
    case GT_RST_LIMIT: break;
    }
    return SOCKS_GENERAL;
}

size_t socks_write_reply(enum socks_reply reply, uint8_t ret[static SOCKS_OUT_MAX])
{
    const uint8_t bytes[SOCKS_OUT_MAX] = {VERSION, (uint8_t)reply, 0, TYPE_IPV4};

    memcpy(ret, bytes, sizeof(bytes));
    return sizeof(bytes);
}
