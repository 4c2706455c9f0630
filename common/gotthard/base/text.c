/* SPDX-License-Identifier: ISC */
/*
 * Strict parsers of numbers, durations, sizes, names and addresses, and formatters of bytes. They
 * ensure that a value means the same in a file, a variable and an option. Pure: they never
 * allocate, never depend on the locale, and never accept a mere prefix of their input.
 */
#include "gotthard/base/text.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <stdio.h>

struct unit {
    const char *name;
    uint64_t factor;
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_alphanumeric(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* Parses the digits at the beginning of @text. *ret_end: the first character after them. */
static int parse_digits(const char *text, uint64_t *ret_value, const char **ret_end)
{
    uint64_t value = 0;
    bool is_overflow = false;
    const char *at = text;

    for (; is_digit(*at); at++) {
        is_overflow |= __builtin_mul_overflow(value, 10, &value);
        is_overflow |= __builtin_add_overflow(value, (uint64_t)(*at - '0'), &value);
    }
    if (at == text || (*text == '0' && at - text > 1))
        return GT_TEXT_E_SYNTAX;
    *ret_value = is_overflow ? UINT64_MAX : value;
    *ret_end = at;
    return is_overflow ? GT_TEXT_E_RANGE : 0;
}

int gt_text_number(const char *text, uint64_t min, uint64_t max, uint64_t *ret_value)
{
    uint64_t value;
    const char *end;

    int r = parse_digits(text, &value, &end);
    if (r == GT_TEXT_E_SYNTAX || *end)
        return GT_TEXT_E_SYNTAX;
    if (r || value < min || value > max)
        return GT_TEXT_E_RANGE;
    *ret_value = value;
    return 0;
}

static int parse_with_unit(const char *text, const struct unit *units, size_t n_units,
                           uint64_t *ret_value)
{
    uint64_t value;
    const char *end;

    int r = parse_digits(text, &value, &end);
    if (r == GT_TEXT_E_SYNTAX)
        return r;
    for (size_t i = 0; i < n_units; i++) {
        if (strcmp(end, units[i].name) != 0)
            continue;
        if (r || __builtin_mul_overflow(value, units[i].factor, &value))
            return GT_TEXT_E_RANGE;
        *ret_value = value;
        return 0;
    }
    return GT_TEXT_E_SYNTAX;
}

int gt_text_duration(const char *text, uint64_t *ret_ms)
{
    static const struct unit units[] = {
        {"ms", 1}, {"s", 1000}, {"min", 60000}, {"h", 3600000}, {"d", 86400000},
    };

    if (strcmp(text, "0") == 0) {
        *ret_ms = 0;
        return 0;
    }
    return parse_with_unit(text, units, GT_ARRAY_SIZE(units), ret_ms);
}

int gt_text_size(const char *text, uint64_t *ret_bytes)
{
    static const struct unit units[] = {
        {"B", 1},
        {"KiB", UINT64_C(1) << 10},
        {"MiB", UINT64_C(1) << 20},
        {"GiB", UINT64_C(1) << 30},
    };

    return parse_with_unit(text, units, GT_ARRAY_SIZE(units), ret_bytes);
}

int gt_text_bool(const char *text, bool *ret_value)
{
    static const char *const names[] = {"false", "true", "no", "yes", "off", "on", "0", "1"};

    for (size_t i = 0; i < GT_ARRAY_SIZE(names); i++) {
        if (strcmp(text, names[i]) != 0)
            continue;
        *ret_value = i % 2;
        return 0;
    }
    return GT_TEXT_E_SYNTAX;
}

void gt_text_hex(const void *data, size_t n, char *ret)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *bytes = data;

    for (size_t i = 0; i < n; i++) {
        ret[2 * i] = digits[bytes[i] >> 4];
        ret[2 * i + 1] = digits[bytes[i] & 15];
    }
    ret[2 * n] = 0;
}

static int hex_value(char c)
{
    if (is_digit(c))
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

int gt_text_unhex(const char *text, void *ret, size_t n)
{
    if (strlen(text) != 2 * n)
        return GT_TEXT_E_SYNTAX;
    for (size_t i = 0; i < 2 * n; i++) {
        if (hex_value(text[i]) < 0)
            return GT_TEXT_E_SYNTAX;
    }
    for (size_t i = 0; i < n; i++)
        ((uint8_t *)ret)[i] = (uint8_t)(hex_value(text[2 * i]) << 4 | hex_value(text[2 * i + 1]));
    return 0;
}

static const char base64_plain[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char base64_url[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

int gt_text_base64(const void *data, size_t n, bool is_url, char *ret, size_t cap)
{
    const char *alphabet = is_url ? base64_url : base64_plain;
    const uint8_t *bytes = data;
    size_t n_digits = n / 3 * 4 + (n % 3 ? n % 3 + 1 : 0);
    size_t n_text = is_url ? n_digits : (n + 2) / 3 * 4;

    if (n_text >= cap)
        return GT_TEXT_E_RANGE;
    for (size_t i = 0; i < n_digits; i++) {
        size_t bit = 6 * i, byte = bit / 8;
        unsigned pair = (unsigned)bytes[byte] << 8 | (byte + 1 < n ? bytes[byte + 1] : 0);

        ret[i] = alphabet[pair >> (10 - bit % 8) & 63];
    }
    memset(ret + n_digits, '=', n_text - n_digits);
    ret[n_text] = 0;
    return 0;
}

/* Returns the number of digits without the padding, or SIZE_MAX if the padding is invalid. */
static size_t base64_n_digits(struct gt_span text)
{
    size_t n = text.n;

    while (n && text.n - n < 2 && text.data[n - 1] == '=')
        n--;
    bool is_padded = n < text.n;
    if (n % 4 == 1 || (is_padded && text.n % 4 != 0))
        return SIZE_MAX;
    return n;
}

static int base64_value(char c, const char *alphabet)
{
    const char *found = c ? strchr(alphabet, c) : NULL;

    return found ? (int)(found - alphabet) : -1;
}

static bool is_base64(struct gt_span digits, const char *alphabet)
{
    for (size_t i = 0; i < digits.n; i++) {
        if (base64_value((char)digits.data[i], alphabet) < 0)
            return false;
    }
    /* The unused bits must be zero: each value has one encoding, so that a key has one name. */
    unsigned unused = digits.n % 4 == 2 ? 15 : digits.n % 4 == 3 ? 3 : 0;
    return !unused || !((unsigned)base64_value((char)digits.data[digits.n - 1], alphabet) & unused);
}

int gt_text_unbase64(struct gt_span text, void *ret, size_t cap, size_t *ret_n)
{
    struct gt_span digits = {text.data, base64_n_digits(text)};

    if (digits.n == SIZE_MAX)
        return GT_TEXT_E_SYNTAX;
    const char *alphabet = is_base64(digits, base64_plain) ? base64_plain : base64_url;
    if (!is_base64(digits, alphabet))
        return GT_TEXT_E_SYNTAX;
    size_t n = digits.n / 4 * 3 + (digits.n % 4 ? digits.n % 4 - 1 : 0);
    if (n > cap)
        return GT_TEXT_E_RANGE;
    uint32_t bits = 0;
    for (size_t i = 0, n_out = 0; i < digits.n; i++) {
        bits = bits << 6 | (uint32_t)base64_value((char)digits.data[i], alphabet);
        if (i % 4 != 0)
            ((uint8_t *)ret)[n_out++] = (uint8_t)(bits >> (6 - i % 4 * 2));
    }
    *ret_n = n;
    return 0;
}

bool gt_text_is_ascii(struct gt_span text)
{
    for (size_t i = 0; i < text.n; i++)
        if (text.data[i] < 0x20 || text.data[i] > 0x7e)
            return false;
    return true;
}

bool gt_text_is_name(struct gt_span text)
{
    if (text.n < 1 || text.n > GT_NAME_MAX || !is_alphanumeric((char)text.data[0]))
        return false;
    for (size_t i = 1; i < text.n; i++) {
        char c = (char)text.data[i];

        if (!is_alphanumeric(c) && (c == 0 || !strchr("._:@-", c)))
            return false;
    }
    return true;
}

bool gt_text_is_device_name(struct gt_span text)
{
    size_t n = strlen(GT_TEXT_RESERVED);

    return gt_text_is_name(text) && (text.n < n || memcmp(text.data, GT_TEXT_RESERVED, n) != 0);
}

/* RFC 4291, section 2.2, with an optional zone ("%eth0", RFC 4007, section 11). */
static bool is_ipv6(const char *text)
{
    char address[INET6_ADDRSTRLEN];
    struct in6_addr ignored;
    size_t n = strcspn(text, "%");

    if (n >= sizeof(address))
        return false;
    memcpy(address, text, n);
    address[n] = 0;
    if (inet_pton(AF_INET6, address, &ignored) != 1)
        return false;
    if (text[n] == 0)
        return true;
    const char *zone = text + n + 1;
    for (const char *at = zone; *at; at++) {
        if (!is_alphanumeric(*at) && !strchr("._-", *at))
            return false;
    }
    return strlen(zone) >= 1 && strlen(zone) <= 15;
}

/* RFC 1123, section 2.1, and the underscore, which exists in practice. */
static bool is_label(const char *label, size_t n)
{
    if (n < 1 || n > 63 || label[0] == '-' || label[n - 1] == '-')
        return false;
    for (size_t i = 0; i < n; i++) {
        if (!is_alphanumeric(label[i]) && label[i] != '-' && label[i] != '_')
            return false;
    }
    return true;
}

static bool is_dns_name(const char *text)
{
    const char *label = text;
    size_t n = strcspn(label, ".");

    while (is_label(label, n) && label[n] && label[n + 1]) { /* rooted: "example.com." */
        label += n + 1;
        n = strcspn(label, ".");
    }
    /* getaddrinfo(3) parses "127.1" and "1.2.3" as addresses: a name must not end in a number. */
    return is_label(label, n) && strspn(label, "0123456789") != n;
}

bool gt_text_is_host(const char *text)
{
    struct in_addr ignored;

    if (strlen(text) > GT_HOST_MAX)
        return false;
    if (strchr(text, ':'))
        return is_ipv6(text);
    return inet_pton(AF_INET, text, &ignored) == 1 || is_dns_name(text);
}

void gt_text_unroot_host(char *host)
{
    size_t n = strlen(host);

    if (n > 1 && host[n - 1] == '.' && !strchr(host, ':')) /* not of an IPv6 zone */
        host[n - 1] = 0;
}

/* Splits @text into the host and the text after the colon (NULL: no colon). */
static int split_host_port(const char *text, char *ret_host, const char **ret_port)
{
    const char *colon = strchr(text, ':');
    const char *host = text;
    size_t n = colon ? (size_t)(colon - text) : strlen(text);
    bool is_bracketed = text[0] == '[';

    if (is_bracketed) {
        const char *end = strchr(text, ']');

        if (!end || (end[1] && end[1] != ':'))
            return GT_TEXT_E_SYNTAX;
        host = text + 1;
        n = (size_t)(end - host);
        colon = end[1] ? end + 1 : NULL;
    } else if (colon && strchr(colon + 1, ':')) {
        n = strlen(text);
        colon = NULL;
    }
    if (n > GT_HOST_MAX)
        return GT_TEXT_E_SYNTAX;
    char copy[GT_HOST_MAX + 1];
    memcpy(copy, host, n);
    copy[n] = 0;
    if (!gt_text_is_host(copy) || (is_bracketed && !strchr(copy, ':')))
        return GT_TEXT_E_SYNTAX;
    gt_text_unroot_host(copy);
    memcpy(ret_host, copy, strlen(copy) + 1);
    *ret_port = colon ? colon + 1 : NULL;
    return 0;
}

int gt_text_host_port(const char *text, uint16_t default_port, char *ret_host, uint16_t *ret_port)
{
    char host[GT_HOST_MAX + 1];
    const char *port_text;
    uint64_t port = default_port;

    int r = split_host_port(text, host, &port_text);
    if (r)
        return r;
    if (!port_text && !default_port)
        return GT_TEXT_E_SYNTAX;
    if (port_text)
        r = gt_text_number(port_text, 1, UINT16_MAX, &port);
    if (r)
        return r;
    memcpy(ret_host, host, strlen(host) + 1);
    *ret_port = (uint16_t)port;
    return 0;
}

static size_t escape_byte(uint8_t byte, char ret[static 5])
{
    if (byte >= 0x20 && byte < 0x7f && byte != '\\') {
        ret[0] = (char)byte;
        return 1;
    }
    return (size_t)snprintf(ret, 5, "\\x%02x", byte);
}

const char *gt_text_escape(struct gt_span text, char *ret, size_t cap)
{
    size_t n = 0, n_before_dots = 0;

    if (cap == 0)
        return ret;
    for (size_t i = 0; i < text.n; i++) {
        char piece[5];
        size_t n_piece = escape_byte(text.data[i], piece);

        if (n + n_piece >= cap) {
            snprintf(ret + n_before_dots, cap - n_before_dots, "...");
            return ret;
        }
        memcpy(ret + n, piece, n_piece);
        n += n_piece;
        if (n + 3 < cap)
            n_before_dots = n;
    }
    ret[n] = 0;
    return ret;
}

const char *gt_text_shorten(const char *text, char *ret, size_t cap)
{
    if ((size_t)snprintf(ret, cap, "%s", text) >= cap)
        memcpy(ret + cap - sizeof("..."), "...", sizeof("..."));
    return ret;
}

const char *gt_text_ago(uint64_t ms, char *ret, size_t cap)
{
    uint64_t s = ms / 1000;

    if (ms < 1000)
        snprintf(ret, cap, "%" PRIu64 " ms", ms);
    else if (s < 10 && ms % 1000 >= 100)
        snprintf(ret, cap, "%" PRIu64 ".%" PRIu64 " s", s, ms % 1000 / 100);
    else if (s < 120)
        snprintf(ret, cap, "%" PRIu64 " s", s);
    else if (s < 120 * 60)
        snprintf(ret, cap, "%" PRIu64 " min", s / 60);
    else if (s < 48 * 3600)
        snprintf(ret, cap, "%" PRIu64 " h", s / 3600);
    else
        snprintf(ret, cap, "%" PRIu64 " d", s / 86400);
    return ret;
}
