/* SPDX-License-Identifier: ISC */
/* Two small languages: the URL of a proxy, and the list of hosts without one; see the header. */
#include "gotthard/base/proxy.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <strings.h>

#define BLANKS ", \t"

/* --- the URL of a proxy ----------------------------------------------------------------------- */

static const struct scheme {
    const char *name;
    enum gt_proxy_kind kind;
    uint16_t port;
} schemes[] = {
    {"http", GT_PROXY_HTTP, 80},
    {"socks5", GT_PROXY_SOCKS5, 1080},
    {"socks5h", GT_PROXY_SOCKS5, 1080},
    {"socks", GT_PROXY_SOCKS5, 1080},
};

/* Returns the scheme of @text and the place after it, or NULL if it is unknown. */
static const struct scheme *find_scheme(const char *text, const char **ret_rest)
{
    const char *end = strstr(text, "://");

    *ret_rest = end ? end + 3 : text;
    for (size_t i = 0; end && i < GT_ARRAY_SIZE(schemes); i++)
        if (strlen(schemes[i].name) == (size_t)(end - text) &&
            strncasecmp(schemes[i].name, text, (size_t)(end - text)) == 0)
            return &schemes[i];
    return end ? NULL : &schemes[0];
}

/* Returns the place after the scheme. */
static const char *skip_scheme(const char *text)
{
    const char *end = strstr(text, "://");

    return end ? end + 3 : text;
}

/* Decodes @n bytes. A decoded NUL is an error. */
static int decode(const char *text, size_t n, char ret[static GT_PROXY_USER_MAX + 1])
{
    size_t n_ret = 0;

    for (size_t i = 0; i < n; i++) {
        char digits[3] = {0}, byte = text[i];

        if (byte == '%') {
            if (n - i < 3)
                return GT_TEXT_E_SYNTAX;
            memcpy(digits, text + i + 1, 2);
            if (gt_text_unhex(digits, &byte, 1) != 0 || byte == 0)
                return GT_TEXT_E_SYNTAX;
            i += 2;
        }
        if (n_ret == GT_PROXY_USER_MAX)
            return GT_TEXT_E_SYNTAX;
        ret[n_ret++] = byte;
    }
    ret[n_ret] = 0;
    return 0;
}

/* @text: "USER[:PASSWORD]" of @n bytes. */
static int parse_user(const char *text, size_t n, struct gt_proxy *ret)
{
    const char *colon = memchr(text, ':', n);
    size_t n_user = colon ? (size_t)(colon - text) : n;
    int r = decode(text, n_user, ret->user);

    if (r == 0 && colon)
        r = decode(colon + 1, n - n_user - 1, ret->password);
    return r == 0 && !*ret->user ? GT_TEXT_E_SYNTAX : r;
}

static int parse_address(const char *text, uint16_t port, struct gt_proxy *ret)
{
    char address[GT_HOST_MAX + 16];
    size_t n = strlen(text);

    n -= n > 0 && text[n - 1] == '/';
    if (n >= sizeof(address))
        return GT_TEXT_E_SYNTAX;
    memcpy(address, text, n);
    address[n] = 0;
    return gt_text_host_port(address, port, ret->host, &ret->port);
}

int gt_proxy_parse(const char *text, struct gt_proxy *ret)
{
    struct gt_proxy proxy = {.kind = GT_PROXY_NONE};
    const char *rest;
    int r = 0;

    if (strcmp(text, "none") == 0) {
        *ret = proxy;
        return 0;
    }
    const struct scheme *scheme = find_scheme(text, &rest);
    if (!scheme)
        return GT_TEXT_E_SYNTAX;
    proxy.kind = scheme->kind;
    const char *at = strrchr(rest, '@');
    if (at)
        r = parse_user(rest, (size_t)(at - rest), &proxy);
    if (r == 0)
        r = parse_address(at ? at + 1 : rest, scheme->port, &proxy);
    if (r == 0)
        *ret = proxy;
    explicit_bzero(&proxy, sizeof(proxy));
    return r == 0 ? 0 : GT_TEXT_E_SYNTAX;
}

bool gt_proxy_has_password(const char *text)
{
    const char *rest = skip_scheme(text), *at = strrchr(rest, '@');

    return at && memchr(rest, ':', (size_t)(at - rest));
}

const char *gt_proxy_without_password(const char *text, char *ret)
{
    const char *rest = skip_scheme(text), *at = strrchr(rest, '@');
    const char *colon = at ? memchr(rest, ':', (size_t)(at - rest)) : NULL;
    size_t n = colon ? (size_t)(colon - text) : strlen(text);

    memcpy(ret, text, n);
    memcpy(ret + n, colon ? at : "", colon ? strlen(at) + 1 : 1);
    return ret;
}

const char *gt_proxy_name(const struct gt_proxy *proxy, char ret[static GT_PROXY_NAME])
{
    bool is_ipv6 = strchr(proxy->host, ':');

    snprintf(ret, GT_PROXY_NAME, is_ipv6 ? "[%s]:%u" : "%s:%u", proxy->host, proxy->port);
    return ret;
}

/* --- hosts without a proxy -------------------------------------------------------------------- */

struct address {
    size_t n; /* bytes; 0: not an address */
    uint8_t bytes[sizeof(struct in6_addr)];
};

static struct address address_of(const char *text)
{
    struct address address = {0};

    if (inet_pton(AF_INET, text, address.bytes) == 1)
        address.n = sizeof(struct in_addr);
    else if (inet_pton(AF_INET6, text, address.bytes) == 1)
        address.n = sizeof(struct in6_addr);
    return address;
}

static bool has_prefix(const struct address *address, const struct address *network, size_t n_bits)
{
    size_t n = n_bits / 8;
    unsigned mask = 0xff00u >> n_bits % 8;

    if (memcmp(address->bytes, network->bytes, n) != 0)
        return false;
    return n == address->n || ((address->bytes[n] ^ network->bytes[n]) & mask & 0xff) == 0;
}

/* @entry: an address or a network, with or without brackets. */
static bool is_in_network(const struct address *address, char *entry)
{
    uint64_t n_bits = address->n * 8;
    size_t n = strlen(entry);
    char *slash = strchr(entry, '/');

    if (slash) {
        *slash = 0;
        if (gt_text_number(slash + 1, 0, n_bits, &n_bits) != 0)
            return false;
    } else if (n > 2 && entry[0] == '[' && entry[n - 1] == ']') {
        entry[n - 1] = 0;
        entry++;
    }
    struct address network = address_of(entry);
    return network.n == address->n && has_prefix(address, &network, (size_t)n_bits);
}

static bool is_in_domain(const char *host, const char *domain)
{
    size_t n_host = strlen(host), n;

    domain += *domain == '.';
    n = strlen(domain);
    n -= n > 0 && domain[n - 1] == '.';
    n_host -= n_host > 0 && host[n_host - 1] == '.';
    if (n == 0 || n > n_host || strncasecmp(host + n_host - n, domain, n) != 0)
        return false;
    return n == n_host || host[n_host - n - 1] == '.';
}

bool gt_proxy_is_excluded(const char *no_proxy, const char *host)
{
    struct address address = address_of(host);
    char entry[GT_HOST_MAX + 8];

    if (no_proxy && strcmp(no_proxy, "*") == 0)
        return true;
    for (const char *at = no_proxy ? no_proxy : ""; *(at += strspn(at, BLANKS));) {
        size_t n = strcspn(at, BLANKS);

        snprintf(entry, sizeof(entry), "%.*s", (int)GT_MIN(n, sizeof(entry) - 1), at);
        if (n < sizeof(entry) &&
            (address.n > 0 ? is_in_network(&address, entry) : is_in_domain(host, entry)))
            return true;
        at += n;
    }
    return false;
}
