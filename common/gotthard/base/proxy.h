/* SPDX-License-Identifier: ISC */
/*
 * The proxy of a setting: its address, its protocol and the user; and the hosts that are connected
 * without it. Pure. The protocols are in net/proxy-handshake.h.
 */
#pragma once

#include "gotthard/base/text.h"

#define GT_PROXY_USER_MAX 255               /* bytes of user or password (RFC 1929, section 2) */
#define GT_PROXY_NAME     (GT_HOST_MAX + 9) /* bytes of "[host]:port" with its NUL */
#define GT_PROXY_WANTED   "http://HOST:PORT, socks5://HOST:PORT or none"

enum gt_proxy_kind {
    GT_PROXY_NONE,
    GT_PROXY_HTTP,   /* CONNECT: RFC 9110, section 9.3.6 */
    GT_PROXY_SOCKS5, /* RFC 1928 */
};

struct gt_proxy {
    enum gt_proxy_kind kind;
    char host[GT_HOST_MAX + 1]; /* a name, or a numeric address without brackets */
    uint16_t port;
    char user[GT_PROXY_USER_MAX + 1]; /* "": no authentication */
    char password[GT_PROXY_USER_MAX + 1];
};

/*
 * Parses "[SCHEME://][USER[:PASSWORD]@]HOST[:PORT][/]". The scheme is http (the default), or
 * socks5, socks5h or socks: the proxy resolves names in any case. User and password are
 * percent-decoded (RFC 3986, section 2.1). The default port is 80 or 1080. "none": GT_PROXY_NONE.
 * Returns 0 or GT_TEXT_E_SYNTAX. The text may contain a secret: do not show it.
 */
int gt_proxy_parse(const char *text, struct gt_proxy *ret) GT_MUST_CHECK;
/* Returns true if the text names a password, in a form that gt_proxy_parse accepts or not. */
bool gt_proxy_has_password(const char *text);
/* Writes @text without its password into @ret, which has room for it. Returns @ret. */
const char *gt_proxy_without_password(const char *text, char *ret);
/* Writes "host:port", for messages. Returns @ret. */
const char *gt_proxy_name(const struct gt_proxy *proxy, char ret[static GT_PROXY_NAME]);

/*
 * Returns true if @host is in the list @no_proxy, as curl(1) reads it: names separated by commas or
 * blanks, each for itself and for the names below it, with or without a leading dot; addresses and
 * networks ("10.0.0.0/8"); "*" alone is every host. NULL: an empty list.
 */
bool gt_proxy_is_excluded(const char *no_proxy, const char *host);
