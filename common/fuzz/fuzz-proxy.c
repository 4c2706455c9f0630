/* SPDX-License-Identifier: ISC */
/*
 * Everything of a proxy that comes from outside: its URL and no_proxy, and its answers. A URL that
 * is shown never has its password. An answer has the same result however its bytes are divided, and
 * takes no byte behind its end.
 */
#include "gotthard/net/http-reply.h"
#include "gotthard/net/socks5.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define TEXT_MAX 600

static void check(bool is_right)
{
    if (!is_right)
        abort();
}

static void check_texts(const uint8_t *data, size_t n)
{
    char text[TEXT_MAX + 1] = {0}, shown[TEXT_MAX + 1];
    struct gt_proxy proxy;

    memcpy(text, data, GT_MIN(n, (size_t)TEXT_MAX));
    gt_proxy_without_password(text, shown);
    check(!gt_proxy_has_password(shown) && strlen(shown) <= strlen(text));
    (void)gt_proxy_is_excluded(text, "relay.example.org");
    (void)gt_proxy_is_excluded(text, "10.1.2.3");
    (void)gt_proxy_is_excluded(text, "2001:db8::1");
    if (gt_proxy_parse(text, &proxy) != 0)
        return;
    check(proxy.kind == GT_PROXY_NONE || (gt_text_is_host(proxy.host) && proxy.port > 0));
    check(!*proxy.password || gt_proxy_has_password(text));
}

static void check_http(const uint8_t *data, size_t n)
{
    struct gt_http_reply whole = {0}, bytewise = {0};
    size_t n_whole = gt_http_reply_feed(&whole, gt_span(data, n)), n_bytewise = 0;

    while (n_bytewise < n && bytewise.state == GT_HTTP_REPLY_MORE)
        n_bytewise += gt_http_reply_feed(&bytewise, gt_span(data + n_bytewise, 1));
    check(n_whole == n_bytewise && memcmp(&whole, &bytewise, sizeof(whole)) == 0);
    check(n_whole <= GT_HTTP_REPLY_MAX && (n_whole == n || whole.state != GT_HTTP_REPLY_MORE));
    check(whole.state != GT_HTTP_REPLY_DONE || whole.code >= 101);
}

static void check_socks5(const struct gt_proxy *proxy, const uint8_t *data, size_t n)
{
    uint8_t message[GT_SOCKS5_MESSAGE_MAX];
    struct gt_socks5 socks5;
    size_t at = 0, n_taken = 1;

    gt_socks5_init(&socks5, proxy, "relay.example.org", 7000);
    while (at < n && n_taken > 0) {
        check((gt_socks5_message(&socks5, message) > 0) == (socks5.state < GT_SOCKS5_DONE));
        n_taken = gt_socks5_feed(&socks5, gt_span(data + at, n - at));
        at += n_taken;
    }
    check(at == n || socks5.state >= GT_SOCKS5_DONE);
    check(socks5.state != GT_SOCKS5_FAILED || socks5.why);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const struct gt_proxy known = {GT_PROXY_SOCKS5, "p", 1, "oli", "pw"};
    static const struct gt_proxy anonymous = {.kind = GT_PROXY_SOCKS5, .host = "p", .port = 1};

    check_texts(data, n);
    check_http(data, n);
    check_socks5(&known, data, n);
    check_socks5(&anonymous, data, n);
    return 0;
}
