/* SPDX-License-Identifier: ISC */
/*
 * The grammar of forwards, parsed from the left: a first field of digits that is followed by a
 * colon is LOCAL, one with a slash is PATH, everything else belongs to the device's side. Any other
 * text must be rejected: a typing error must never become a tunnel to another service.
 */
#include "forward-spec.h"

#include <stdio.h>

#include "gotthard/net/sock.h"

#define UNPRIVILEGED_PORT 1024
#define UDP               "udp:"
#define SOCKS             "socks"
#define SOCKS_PORT        1080 /* RFC 1928 */

static bool is_digits(const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (text[i] < '0' || text[i] > '9')
            return false;
    return n > 0;
}

/* Returns true for a service name as configuration files can have it. It begins with a letter, so
 * that a mistyped number is not a name. */
static bool is_service_name(const char *text)
{
    bool is_letter = (*text >= 'A' && *text <= 'Z') || (*text >= 'a' && *text <= 'z');

    return is_letter && gt_text_is_name(gt_span_text(text)) && !strpbrk(text, ":@");
}

static int parse_port(const char *text, uint64_t min, uint16_t *ret, const char **ret_why)
{
    uint64_t value;

    if (gt_text_number(text, min, UINT16_MAX, &value) != 0) {
        *ret_why = "a port must be a number from 1 to 65535, without leading zeros";
        return FORWARD_SPEC_E_BAD;
    }
    *ret = (uint16_t)value;
    return 0;
}

/* The first field: empty, or a port. 0 and empty stand for a free one. */
static int parse_local(const char *text, size_t n, uint16_t *ret, const char **ret_why)
{
    char field[sizeof("65535")] = "0";

    if (n >= sizeof(field)) {
        *ret_why = "a local port must be a number from 0 (any free one) to 65535";
        return FORWARD_SPEC_E_BAD;
    }
    if (n > 0)
        snprintf(field, sizeof(field), "%.*s", (int)n, text);
    return parse_port(field, 0, ret, ret_why);
}

static int parse_path(const char *text, size_t n, char ret[static LOCAL_SOCKET_PATH_MAX + 1],
                      const char **ret_why)
{
    if (n > LOCAL_SOCKET_PATH_MAX) {
        *ret_why = "the path of a socket has at most 100 bytes";
        return FORWARD_SPEC_E_BAD;
    }
    memcpy(ret, text, n);
    ret[n] = 0;
    return 0;
}

static int parse_host_port(const char *text, const char **ret_why)
{
    char host[GT_HOST_MAX + 1];
    uint16_t port;

    if (*text != '[' && strchr(text, ':') != strrchr(text, ':')) {
        *ret_why = "an IPv6 address must be in brackets: [::1]:80";
        return FORWARD_SPEC_E_BAD;
    }
    if (gt_text_host_port(text, 0, host, &port) != 0 || port == 0 ||
        is_digits(host, strlen(host))) {
        *ret_why = "a host behind the device must be HOST:PORT";
        return FORWARD_SPEC_E_BAD;
    }
    return 0;
}

/* The device's side: SERVICE, PORT or HOST:PORT. *ret_port is 0 unless it is a PORT alone. */
static int parse_remote(const char *text, uint16_t *ret_port, const char **ret_why)
{
    *ret_port = 0;
    if (strlen(text) > GT_SERVICE_MAX) {
        *ret_why = "too long";
        return FORWARD_SPEC_E_BAD;
    }
    if (is_digits(text, strlen(text)))
        return parse_port(text, 1, ret_port, ret_why);
    if (strchr(text, ':'))
        return parse_host_port(text, ret_why);
    if (is_service_name(text))
        return 0;
    *ret_why = *text ? "not a service name or a port" : "missing service or port";
    return FORWARD_SPEC_E_BAD;
}

static int parse_stream(const char *text, uint16_t default_local, struct forward_spec *ret,
                        const char **ret_why)
{
    struct forward_spec spec = {0};
    const char *colon = strchr(text, ':');
    const char *remote = text;
    size_t n_first = colon ? (size_t)(colon - text) : 0;

    if (colon && (n_first == 0 || is_digits(text, n_first))) {
        if (parse_local(text, n_first, &spec.local, ret_why) != 0)
            return FORWARD_SPEC_E_BAD;
        spec.is_local_given = true;
        remote = colon + 1;
    }
    if (colon && memchr(text, '/', n_first)) {
        if (parse_path(text, n_first, spec.path, ret_why) != 0)
            return FORWARD_SPEC_E_BAD;
        spec.is_local_given = true;
        remote = colon + 1;
    }
    uint16_t port;
    if (parse_remote(remote, &port, ret_why) != 0)
        return FORWARD_SPEC_E_BAD;
    spec.is_socks = strcmp(remote, SOCKS) == 0;
    if (!spec.is_local_given && spec.is_socks)
        spec.local = SOCKS_PORT;
    else if (!spec.is_local_given)
        spec.local = port >= UNPRIVILEGED_PORT ? port : default_local;
    snprintf(spec.service, sizeof(spec.service), "%s", remote);
    *ret = spec;
    return 0;
}

/* udp:LOCAL:REMOTE; @text is the part after "udp:". */
static int parse_udp(const char *text, struct forward_spec *ret, const char **ret_why)
{
    struct forward_spec spec;

    if (parse_stream(text, 0, &spec, ret_why) != 0)
        return FORWARD_SPEC_E_BAD;
    if (!spec.is_local_given || spec.path[0] || spec.is_socks) {
        *ret_why = "a forward of UDP is udp:LOCAL:[SERVICE|[HOST:]PORT]";
        return FORWARD_SPEC_E_BAD;
    }
    char service[sizeof(spec.service)];
    int n = snprintf(service, sizeof(service), UDP "%s", spec.service);
    if (n < 0 || (size_t)n >= sizeof(service)) {
        *ret_why = "too long";
        return FORWARD_SPEC_E_BAD;
    }
    memcpy(spec.service, service, sizeof(service));
    spec.is_udp = true;
    *ret = spec;
    return 0;
}

int forward_spec_parse(const char *text, uint16_t default_local, struct forward_spec *ret,
                       const char **ret_why)
{
    if (strncmp(text, UDP, strlen(UDP)) == 0)
        return parse_udp(text + strlen(UDP), ret, ret_why);
    return parse_stream(text, default_local, ret, ret_why);
}

/* Copies BIND. localhost and nothing are loopback. */
static bool parse_bind(const char *text, size_t n, char ret[static FORWARD_BIND_MAX + 1])
{
    bool is_bracketed = n > 2 && text[0] == '[' && text[n - 1] == ']';
    const char *host = text + is_bracketed;
    size_t n_host = n - 2 * is_bracketed;
    struct gt_addr ignored;

    if (n_host == 0 || n_host > FORWARD_BIND_MAX || memchr(host, '[', n_host) ||
        (memchr(host, ':', n_host) != NULL) != is_bracketed)
        return false;
    memcpy(ret, host, n_host);
    ret[n_host] = 0;
    if (strcmp(ret, "localhost") == 0)
        ret[0] = 0;
    return !ret[0] || strcmp(ret, "*") == 0 || gt_addr_parse(ret, 0, &ignored) == 0;
}

int forward_spec_parse_socks(const char *text, struct forward_spec *ret, const char **ret_why)
{
    struct forward_spec spec = {.is_socks = true, .is_local_given = true, .service = SOCKS};
    const char *colon = strrchr(text, ':');
    const char *port = colon ? colon + 1 : text;

    if (colon && !parse_bind(text, (size_t)(colon - text), spec.bind)) {
        *ret_why = "before the port comes a numeric address of this machine, *, or localhost";
        return FORWARD_SPEC_E_BAD;
    }
    if (parse_local(port, strlen(port), &spec.local, ret_why) != 0 || !*port) {
        *ret_why = "a local port must be a number from 0 (any free one) to 65535";
        return FORWARD_SPEC_E_BAD;
    }
    *ret = spec;
    return 0;
}
