/* SPDX-License-Identifier: ISC */
/*
 * Messages and answers alternate. The received bytes are looked at in place (MSG_PEEK), and then
 * exactly those that belong to the answer are taken.
 */
#include "gotthard/net/proxy-handshake.h"

#include <stdio.h>
#include <sys/socket.h>

#include "gotthard/crypto/crypto.h"

#define PEEK_MAX 2048 /* bytes */

static const char *target_text(const struct gt_proxy_handshake *handshake,
                               char ret[static GT_PROXY_NAME])
{
    bool is_ipv6 = strchr(handshake->target.host, ':');

    snprintf(ret, GT_PROXY_NAME, is_ipv6 ? "[%s]:%u" : "%s:%u", handshake->target.host,
             handshake->target.port);
    return ret;
}

/* --- messages --------------------------------------------------------------------------------- */

/* RFC 7617. Returns the length. */
static size_t write_credentials(const struct gt_proxy *proxy, char *ret, size_t cap)
{
    char plain[2 * GT_PROXY_USER_MAX + 2], encoded[4 * sizeof(plain) / 3 + 4];
    size_t n = (size_t)snprintf(plain, sizeof(plain), "%s:%s", proxy->user, proxy->password);
    int r = gt_text_base64(plain, n, false, encoded, sizeof(encoded));

    n = r == 0 ? (size_t)snprintf(ret, cap, "Proxy-Authorization: Basic %s\r\n", encoded) : 0;
    gt_wipe(plain, sizeof(plain));
    gt_wipe(encoded, sizeof(encoded));
    return n;
}

static void set_http_message(struct gt_proxy_handshake *handshake)
{
    char target[GT_PROXY_NAME], *out = (char *)handshake->out;
    size_t cap = sizeof(handshake->out), n;

    target_text(handshake, target);
    n = (size_t)snprintf(out, cap, "CONNECT %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: gotthard\r\n",
                         target, target);
    if (*handshake->proxy->user)
        n += write_credentials(handshake->proxy, out + n, cap - n);
    n += (size_t)snprintf(out + n, cap - n, "\r\n");
    handshake->n_out = GT_MIN(n, cap - 1);
}

void gt_proxy_handshake_init(struct gt_proxy_handshake *handshake, const struct gt_proxy *proxy,
                             const struct gt_host_port *target)
{
    *handshake = (struct gt_proxy_handshake){.proxy = proxy, .target = *target};
    if (proxy->kind == GT_PROXY_HTTP) {
        set_http_message(handshake);
    } else {
        gt_socks5_init(&handshake->socks5, proxy, target->host, target->port);
        handshake->n_out = gt_socks5_message(&handshake->socks5, handshake->out);
    }
}

/* --- failures --------------------------------------------------------------------------------- */

static int fail(struct gt_proxy_handshake *handshake, const char *why)
{
    char name[GT_PROXY_NAME], target[GT_PROXY_NAME];

    gt_wipe(handshake->out, sizeof(handshake->out));
    snprintf(handshake->why, sizeof(handshake->why),
             "proxy %s could not make a connection to %s: %s",
             gt_proxy_name(handshake->proxy, name), target_text(handshake, target), why);
    return GT_PROXY_HANDSHAKE_E_FAILED;
}

void gt_proxy_handshake_expire(struct gt_proxy_handshake *handshake)
{
    (void)fail(handshake, "no answer");
}

/* 4xx is about this request, unless the proxy has lost time or is busy. */
static bool is_denial(unsigned code)
{
    return code >= 400 && code < 500 && code != 408 && code != 425 && code != 429;
}

static int fail_http(struct gt_proxy_handshake *handshake)
{
    const struct gt_http_reply *reply = &handshake->http;
    char name[GT_PROXY_NAME], target[GT_PROXY_NAME];
    bool is_other = reply->code == 407 && reply->has_challenge && !reply->has_basic;

    handshake->is_answered = true;
    handshake->is_denied = is_denial(reply->code);
    snprintf(handshake->why, sizeof(handshake->why), "proxy %s %s connection to %s: %u%s%s%s",
             gt_proxy_name(handshake->proxy, name),
             handshake->is_denied ? "denied a" : "could not make a", target_text(handshake, target),
             reply->code, *reply->reason ? " " : "", reply->reason,
             is_other ? " (it does not offer Basic)" : "");
    return GT_PROXY_HANDSHAKE_E_FAILED;
}

static int fail_socks5(struct gt_proxy_handshake *handshake)
{
    char name[GT_PROXY_NAME], target[GT_PROXY_NAME];

    handshake->is_answered = true;
    handshake->is_denied = handshake->socks5.is_denied;
    snprintf(handshake->why, sizeof(handshake->why), "proxy %s %s (%s)",
             gt_proxy_name(handshake->proxy, name), handshake->socks5.why,
             target_text(handshake, target));
    return GT_PROXY_HANDSHAKE_E_FAILED;
}

/* --- answers ---------------------------------------------------------------------------------- */

/* Returns 0 when the tunnel is up. */
static int handle_http(struct gt_proxy_handshake *handshake)
{
    const struct gt_http_reply *reply = &handshake->http;

    switch (reply->state) {
    case GT_HTTP_REPLY_MORE: return GT_PROXY_HANDSHAKE_E_READ;
    case GT_HTTP_REPLY_BAD: return fail(handshake, "its answer is not HTTP");
    case GT_HTTP_REPLY_TOO_LONG: return fail(handshake, "its answer is too long");
    case GT_HTTP_REPLY_DONE: break;
    }
    return reply->code >= 200 && reply->code < 300 ? 0 : fail_http(handshake);
}

static int handle_socks5(struct gt_proxy_handshake *handshake, enum gt_socks5_state before)
{
    if (handshake->socks5.state == GT_SOCKS5_DONE)
        return 0;
    if (handshake->socks5.state == GT_SOCKS5_FAILED)
        return fail_socks5(handshake);
    if (handshake->socks5.state == before)
        return GT_PROXY_HANDSHAKE_E_READ;
    handshake->n_sent = 0;
    handshake->n_out = gt_socks5_message(&handshake->socks5, handshake->out);
    return GT_PROXY_HANDSHAKE_E_WRITE;
}

/* Returns how many of @bytes belong to the answer; *ret as gt_proxy_handshake_run. */
static size_t handshake_feed(struct gt_proxy_handshake *handshake, struct gt_span bytes, int *ret)
{
    enum gt_socks5_state before = handshake->socks5.state;
    size_t n;

    if (handshake->proxy->kind == GT_PROXY_HTTP) {
        n = gt_http_reply_feed(&handshake->http, bytes);
        *ret = handle_http(handshake);
    } else {
        n = gt_socks5_feed(&handshake->socks5, bytes);
        *ret = handle_socks5(handshake, before);
    }
    return n;
}

/* --- the socket ------------------------------------------------------------------------------- */

/* EAGAIN and EINTR are no failure: the caller calls again. Others are about the connection to the
 * proxy: the first send() also reports the outcome of connect(). */
static int handle_errno(struct gt_proxy_handshake *handshake, int wait)
{
    const char *why = strerror(errno);
    char name[GT_PROXY_NAME];

    if (errno == EAGAIN || errno == EINTR)
        return wait;
    gt_wipe(handshake->out, sizeof(handshake->out));
    snprintf(handshake->why, sizeof(handshake->why), "proxy %s: %s",
             gt_proxy_name(handshake->proxy, name), why);
    return GT_PROXY_HANDSHAKE_E_FAILED;
}

static int handshake_send(struct gt_proxy_handshake *handshake, int fd)
{
    ssize_t n = send(fd, handshake->out + handshake->n_sent, handshake->n_out - handshake->n_sent,
                     MSG_NOSIGNAL);

    if (n < 0)
        return handle_errno(handshake, GT_PROXY_HANDSHAKE_E_WRITE);
    handshake->n_sent += (size_t)n;
    if (handshake->n_sent < handshake->n_out)
        return GT_PROXY_HANDSHAKE_E_WRITE;
    gt_wipe(handshake->out, sizeof(handshake->out));
    return 0;
}

static int handshake_receive(struct gt_proxy_handshake *handshake, int fd)
{
    uint8_t bytes[PEEK_MAX];
    int r;

    ssize_t n = recv(fd, bytes, sizeof(bytes), MSG_PEEK);
    if (n < 0)
        return handle_errno(handshake, GT_PROXY_HANDSHAKE_E_READ);
    if (n == 0)
        return fail(handshake, "closed without an answer");
    size_t n_taken = handshake_feed(handshake, gt_span(bytes, (size_t)n), &r);
    if (recv(fd, bytes, n_taken, 0) != (ssize_t)n_taken)
        return fail(handshake, "the socket lost bytes");
    return r;
}

int gt_proxy_handshake_run(struct gt_proxy_handshake *handshake, int fd)
{
    int r = GT_PROXY_HANDSHAKE_E_WRITE;

    while (r == GT_PROXY_HANDSHAKE_E_WRITE) { /* a message is set */
        if (handshake->n_sent < handshake->n_out)
            r = handshake_send(handshake, fd);
        else
            r = 0;
        if (r != 0)
            return r;
        r = handshake_receive(handshake, fd);
    }
    return r;
}
