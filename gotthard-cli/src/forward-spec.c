/* SPDX-License-Identifier: ISC */
/*
 * The grammar of targets, read from the left: an all-digit first field with more behind it is
 * LOCAL, everything else belongs to the device's side. It must refuse what it does not understand:
 * a typing error must never become a tunnel to something else.
 */
#include "target.h"

#include <stdio.h>

#define UNPRIVILEGED_PORT 1024

static bool is_digits(const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (text[i] < '0' || text[i] > '9')
            return false;
    return n > 0;
}

/* A service's name as configuration files can write it: it begins with a letter, so that a number
 * mistyped is no name. */
static bool is_service_name(const char *text)
{
    bool is_letter = (*text >= 'A' && *text <= 'Z') || (*text >= 'a' && *text <= 'z');
    return is_letter && gt_text_is_name(gt_span_text(text)) && !strpbrk(text, ":@");
}

static int parse_port(const char *text, uint64_t min, uint16_t *ret, const char **ret_why)
{
    uint64_t value;
    if (gt_text_number(text, min, UINT16_MAX, &value) != 0) {
        *ret_why = "a port is a number from 1 to 65535, without leading zeros";
        return TARGET_E_BAD;
    }
    *ret = (uint16_t)value;
    return 0;
}

/* The first field: nothing at all, or a port; 0 asks for a free one. */
static int parse_local(const char *text, size_t n, uint16_t *ret, const char **ret_why)
{
    char field[sizeof("65535")] = "0";
    if (n >= sizeof(field)) {
        *ret_why = "a local port is a number from 0 (any free one) to 65535";
        return TARGET_E_BAD;
    }
    if (n > 0)
        snprintf(field, sizeof(field), "%.*s", (int)n, text);
    return parse_port(field, 0, ret, ret_why);
}

static int parse_host_port(const char *text, const char **ret_why)
{
    char host[GT_HOST_MAX + 1];
    uint16_t port;
    if (*text != '[' && strchr(text, ':') != strrchr(text, ':')) {
        *ret_why = "an IPv6 address stands in brackets: [::1]:80";
        return TARGET_E_BAD;
    }
    if (gt_text_host_port(text, 0, host, &port) != 0 || port == 0 ||
        is_digits(host, strlen(host))) {
        *ret_why = "beyond the device, HOST:PORT is needed";
        return TARGET_E_BAD;
    }
    return 0;
}

/* The device's side: SERVICE, PORT or HOST:PORT. *ret_port is 0 but for a PORT alone. */
static int parse_remote(const char *text, uint16_t *ret_port, const char **ret_why)
{
    *ret_port = 0;
    if (strlen(text) > GT_SERVICE_MAX) {
        *ret_why = "too long";
        return TARGET_E_BAD;
    }
    if (is_digits(text, strlen(text)))
        return parse_port(text, 1, ret_port, ret_why);
    if (strchr(text, ':'))
        return parse_host_port(text, ret_why);
    if (is_service_name(text))
        return 0;
    *ret_why = *text ? "neither a service's name nor a port" : "a service or a port is missing";
    return TARGET_E_BAD;
}

int target_parse(const char *text, uint16_t default_local, struct target *ret, const char **ret_why)
{
    struct target target = {0};
    const char *colon = strchr(text, ':');
    const char *remote = text;
    size_t n_first = colon ? (size_t)(colon - text) : 0;
    if (colon && (n_first == 0 || is_digits(text, n_first))) {
        if (parse_local(text, n_first, &target.local, ret_why) != 0)
            return TARGET_E_BAD;
        target.is_local_given = true;
        remote = colon + 1;
    }
    uint16_t port;
    if (parse_remote(remote, &port, ret_why) != 0)
        return TARGET_E_BAD;
    if (!target.is_local_given)
        target.local = port >= UNPRIVILEGED_PORT ? port : default_local;
    snprintf(target.service, sizeof(target.service), "%s", remote);
    *ret = target;
    return 0;
}
