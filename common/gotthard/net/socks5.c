/* SPDX-License-Identifier: ISC */
/* One state for each message and its answer; see the header. */
#include "gotthard/net/socks5.h"

#include <arpa/inet.h>

#define VERSION      5
#define VERSION_AUTH 1 /* RFC 1929 */

enum { METHOD_NONE = 0, METHOD_PASSWORD = 2, METHOD_REFUSED = 0xff };
enum { ADDRESS_IPV4 = 1, ADDRESS_NAME = 3, ADDRESS_IPV6 = 4 };

static const struct {
    const char *why;
    bool is_denied;
} replies[] = {
    [1] = {"reports a general failure", false},
    [2] = {"denied the connection by its rules", true},
    [3] = {"has no route to it: network unreachable", false},
    [4] = {"cannot reach it: host unreachable", false},
    [5] = {"cannot reach it: connection refused", false},
    [6] = {"cannot reach it: time to live expired", false},
    [7] = {"does not support CONNECT", true},
    [8] = {"does not support this kind of address", true},
};

void gt_socks5_init(struct gt_socks5 *socks5, const struct gt_proxy *proxy, const char *host,
                    uint16_t port)
{
    *socks5 = (struct gt_socks5){.proxy = proxy, .port = port};
    memcpy(socks5->host, host, strnlen(host, GT_HOST_MAX));
}

static void write_text(struct gt_writer *w, const char *text)
{
    gt_write_u8(w, (uint8_t)strlen(text));
    gt_write_bytes(w, text, strlen(text));
}

static void write_address(struct gt_writer *w, const char *host)
{
    uint8_t address[sizeof(struct in6_addr)];

    if (inet_pton(AF_INET, host, address) == 1) {
        gt_write_u8(w, ADDRESS_IPV4);
        gt_write_bytes(w, address, sizeof(struct in_addr));
    } else if (inet_pton(AF_INET6, host, address) == 1) {
        gt_write_u8(w, ADDRESS_IPV6);
        gt_write_bytes(w, address, sizeof(struct in6_addr));
    } else {
        gt_write_u8(w, ADDRESS_NAME);
        write_text(w, host);
    }
}

static void write_greeting(struct gt_writer *w, const struct gt_proxy *proxy)
{
    bool has_user = *proxy->user;

    gt_write_u8(w, VERSION);
    gt_write_u8(w, has_user ? 2 : 1);
    gt_write_u8(w, METHOD_NONE);
    if (has_user)
        gt_write_u8(w, METHOD_PASSWORD);
}

size_t gt_socks5_message(const struct gt_socks5 *socks5, uint8_t ret[static GT_SOCKS5_MESSAGE_MAX])
{
    struct gt_writer w = gt_writer(ret, GT_SOCKS5_MESSAGE_MAX);

    switch (socks5->state) {
    case GT_SOCKS5_METHOD: write_greeting(&w, socks5->proxy); break;
    case GT_SOCKS5_AUTH:
        gt_write_u8(&w, VERSION_AUTH);
        write_text(&w, socks5->proxy->user);
        write_text(&w, socks5->proxy->password);
        break;
    case GT_SOCKS5_CONNECT:
        gt_write_u8(&w, VERSION);
        gt_write_u8(&w, 1); /* CONNECT */
        gt_write_u8(&w, 0);
        write_address(&w, socks5->host);
        gt_write_u16(&w, socks5->port);
        break;
    case GT_SOCKS5_DONE:
    case GT_SOCKS5_FAILED: break;
    }
    return w.n;
}

static void fail(struct gt_socks5 *socks5, bool is_denied, const char *why)
{
    socks5->state = GT_SOCKS5_FAILED;
    socks5->is_denied = is_denied;
    socks5->why = why;
}

/* Returns the size of the present answer, as far as it is known: it grows with the bytes. */
static size_t reply_size(const struct gt_socks5 *socks5)
{
    if (socks5->state != GT_SOCKS5_CONNECT)
        return 2;
    if (socks5->n_reply < 5)
        return 5;
    switch (socks5->reply[3]) {
    case ADDRESS_IPV4: return 4 + 4 + 2;
    case ADDRESS_IPV6: return 4 + 16 + 2;
    case ADDRESS_NAME: return 4 + 1 + socks5->reply[4] + 2u;
    }
    return 5; /* malformed */
}

static void handle_method(struct gt_socks5 *socks5)
{
    bool has_user = *socks5->proxy->user;

    if (socks5->reply[0] != VERSION)
        fail(socks5, false, "does not speak SOCKS5");
    else if (socks5->reply[1] == METHOD_NONE)
        socks5->state = GT_SOCKS5_CONNECT;
    else if (socks5->reply[1] == METHOD_PASSWORD && has_user)
        socks5->state = GT_SOCKS5_AUTH;
    else if (socks5->reply[1] == METHOD_REFUSED && !has_user)
        fail(socks5, true, "requires a user name and a password");
    else
        fail(socks5, true, "requires another kind of authentication");
}

static void handle_connect(struct gt_socks5 *socks5)
{
    uint8_t code = socks5->reply[1], kind = socks5->reply[3];
    bool is_known = code < GT_ARRAY_SIZE(replies) && replies[code].why;

    if (socks5->reply[0] != VERSION)
        fail(socks5, false, "does not speak SOCKS5");
    else if (code != 0)
        fail(socks5, is_known && replies[code].is_denied,
             is_known ? replies[code].why : "reports an unknown failure");
    else if (kind != ADDRESS_IPV4 && kind != ADDRESS_IPV6 && kind != ADDRESS_NAME)
        fail(socks5, false, "sent a malformed answer");
    else
        socks5->state = GT_SOCKS5_DONE;
}

static void handle_reply(struct gt_socks5 *socks5)
{
    switch (socks5->state) {
    case GT_SOCKS5_METHOD: handle_method(socks5); break;
    case GT_SOCKS5_AUTH:
        if (socks5->reply[1] == 0)
            socks5->state = GT_SOCKS5_CONNECT;
        else
            fail(socks5, true, "rejected the user name or the password");
        break;
    case GT_SOCKS5_CONNECT: handle_connect(socks5); break;
    case GT_SOCKS5_DONE:
    case GT_SOCKS5_FAILED: break;
    }
    socks5->n_reply = 0;
}

/* Stops after one answer, so that its message can be sent. */
size_t gt_socks5_feed(struct gt_socks5 *socks5, struct gt_span bytes)
{
    enum gt_socks5_state state = socks5->state;
    size_t n = 0;

    while (n < bytes.n && socks5->state == state && state < GT_SOCKS5_DONE) {
        socks5->reply[socks5->n_reply++] = bytes.data[n++];
        if (socks5->n_reply == reply_size(socks5))
            handle_reply(socks5);
    }
    return n;
}
