/* SPDX-License-Identifier: ISC */
/*
 * The parser of the setting agent.permit. It decides about access, so it must not guess: anything
 * that does not have exactly the documented form, or makes no sense, rejects the whole setting.
 */
#include <arpa/inet.h>
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>

#include "permit-private.h"

#define WORD_MAX 512 /* bytes of an entry */

/* The sentence begins with the entry. */
struct parser {
    const char *word; /* the entry */
    char *ret_why;
    size_t cap;
};

GT_PRINTF(2, 3)
static int parser_fail(const struct parser *parser, const char *fmt, ...)
{
    char shown[96];
    va_list arguments;

    gt_text_shorten(parser->word, shown, sizeof(shown));
    int n = snprintf(parser->ret_why, parser->cap, "'%s': ", shown);
    va_start(arguments, fmt);
    if (n >= 0 && (size_t)n < parser->cap)
        vsnprintf(parser->ret_why + n, parser->cap - (size_t)n, fmt, arguments);
    va_end(arguments);
    return PERMIT_E_BAD;
}

/* --- ports ------------------------------------------------------------------------------------ */

static bool parse_port(const char *text, uint16_t *ret)
{
    uint64_t value;

    if (gt_text_number(text, 1, UINT16_MAX, &value) != 0)
        return false;
    *ret = (uint16_t)value;
    return true;
}

/* "80", "8000-8010" or "*"; changes @text. */
static bool parse_range(char *text, struct permit_range *ret)
{
    char *dash = strchr(text, '-');

    if (strcmp(text, "*") == 0) {
        *ret = (struct permit_range){1, UINT16_MAX};
        return true;
    }
    if (!dash) {
        if (!parse_port(text, &ret->first))
            return false;
        ret->last = ret->first;
        return true;
    }
    *dash = 0;
    return parse_port(text, &ret->first) && parse_port(dash + 1, &ret->last) &&
           ret->first < ret->last;
}

static int parse_ports(const struct parser *parser, char *text, struct permit_entry *entry)
{
    char *comma;

    do {
        comma = strchr(text, ',');
        if (comma)
            *comma = 0;
        if (entry->n_ranges == PERMIT_RANGES_MAX)
            return parser_fail(parser, "an entry has at most %d ports and ranges",
                               PERMIT_RANGES_MAX);
        if (!parse_range(text, &entry->ranges[entry->n_ranges++]))
            return parser_fail(parser, "the ports must be numbers from 1 to 65535 with commas, "
                                       "ranges such as 8000-8010, or * for all");
        text = comma ? comma + 1 : NULL;
    } while (text);
    return 0;
}

/* --- hosts ------------------------------------------------------------------------------------ */

static const char *network_text(const struct permit_entry *entry, bool is_ipv4,
                                char ret[static INET6_ADDRSTRLEN])
{
    return is_ipv4 ? inet_ntop(AF_INET, entry->network + 12, ret, INET6_ADDRSTRLEN)
                   : inet_ntop(AF_INET6, entry->network, ret, INET6_ADDRSTRLEN);
}

/* Clears the bits beyond the prefix. Returns true if one was set. */
static bool clear_host_bits(struct permit_entry *entry)
{
    uint8_t before[16];

    memcpy(before, entry->network, sizeof(before));
    for (unsigned i = entry->n_bits; i < 128; i++)
        entry->network[i / 8] &= (uint8_t) ~(0x80 >> (i % 8));
    return memcmp(before, entry->network, sizeof(before)) != 0;
}

/* @bits: the text after the slash; NULL: one address. */
static int parse_network(const struct parser *parser, const struct gt_addr *addr, const char *bits,
                         struct permit_entry *entry)
{
    bool is_ipv4 = addr->any.sa_family == AF_INET;
    uint64_t max = is_ipv4 ? 32 : 128, n_bits = max;
    char text[INET6_ADDRSTRLEN];

    if (bits && gt_text_number(bits, 0, max, &n_bits) != 0)
        return parser_fail(parser, "the prefix must be a number from 0 to %d", (int)max);
    if (!permit_normalize(addr, entry->network))
        return parser_fail(parser, "not an address");
    entry->n_bits = (uint8_t)(n_bits + 128 - max);
    if (clear_host_bits(entry))
        return parser_fail(parser,
                           "the address has bits beyond its prefix, write %s/%d for the "
                           "network",
                           network_text(entry, is_ipv4, text), (int)n_bits);
    if (!is_ipv4 && IN6_IS_ADDR_V4MAPPED(&addr->v6.sin6_addr) && entry->n_bits < 96)
        return parser_fail(parser, "write an IPv4 network as IPv4");
    return 0;
}

static bool is_numeric(const char *text)
{
    return *text && text[strspn(text, "0123456789")] == 0;
}

/* Returns true for "10.0.0", "300.1.1.1" and the like: a mistyped address is no name. */
static bool resembles_address(const char *name)
{
    const char *dot = strrchr(name, '.');

    return is_numeric(dot ? dot + 1 : name);
}

static int parse_name(const struct parser *parser, const char *text, struct permit_entry *entry)
{
    bool is_suffix = strncmp(text, "*.", 2) == 0;
    const char *name = is_suffix ? text + 2 : text;

    if (strcmp(text, "*") == 0)
        return parser_fail(parser, "all hosts are 0.0.0.0/0 and [::/0]");
    if (strchr(text, '/'))
        return parser_fail(parser, "not a network; write 192.168.1.0/24 or [fd00::/8]");
    if (!gt_text_is_host(name) || strchr(name, ':') || resembles_address(name))
        return parser_fail(parser, "neither an address nor a host name");
    snprintf(entry->name, sizeof(entry->name), "%s", is_suffix ? text + 1 : text);
    gt_text_unroot_host(entry->name);
    for (char *c = entry->name; *c; c++)
        *c = (char)tolower((unsigned char)*c);
    return 0;
}

static int parse_host(const struct parser *parser, char *text, bool is_bracketed,
                      struct permit_entry *entry)
{
    struct gt_addr addr = {0};
    char *slash = strchr(text, '/');

    if (slash)
        *slash = 0;
    if (!is_bracketed && inet_pton(AF_INET, text, &addr.v4.sin_addr) == 1)
        addr.any.sa_family = AF_INET;
    if (is_bracketed && inet_pton(AF_INET6, text, &addr.v6.sin6_addr) == 1)
        addr.any.sa_family = AF_INET6;
    if (addr.any.sa_family != AF_UNSPEC)
        return parse_network(parser, &addr, slash ? slash + 1 : NULL, entry);
    if (is_bracketed)
        return parser_fail(parser, "the brackets must contain an IPv6 address or network, without "
                                   "a zone: [fd00::/8]");
    if (slash)
        *slash = '/';
    return parse_name(parser, text, entry);
}

/* --- entries ---------------------------------------------------------------------------------- */

/* Splits @text, a copy of the entry, in its host and its ports. */
static int split_entry(const struct parser *parser, char *text, char **ret_host, char **ret_ports,
                       bool *ret_is_bracketed)
{
    char *end = strchr(text, ']');
    char *colon = strchr(text, ':');

    *ret_is_bracketed = text[0] == '[';
    *ret_host = text + *ret_is_bracketed;
    if (*ret_is_bracketed && (!end || end[1] == '/'))
        return parser_fail(parser, "the bracket must close after the prefix: [fd00::/8]:22");
    if (*ret_is_bracketed) {
        *end = 0;
        colon = end[1] == ':' ? end + 1 : NULL;
    } else if (colon && strchr(colon + 1, ':')) {
        return parser_fail(parser, "IPv6 must be in brackets, and ports come last: [fd00::/8]:22");
    }
    if (!colon)
        return parser_fail(parser, "ports are missing; add :80, :80,443, :8000-8010 or :*");
    *colon = 0;
    *ret_ports = colon + 1;
    return 0;
}

static int permit_add(struct permit *permit, const struct permit_entry *entry)
{
    if ((permit->n & (permit->n - 1)) == 0) {
        size_t cap = permit->n ? 2 * permit->n : 1;
        struct permit_entry *entries = reallocarray(permit->entries, cap, sizeof(*entries));

        if (!entries)
            return -ENOMEM;
        permit->entries = entries;
    }
    permit->entries[permit->n++] = *entry;
    return 0;
}

/* `localhost` stands for its two addresses, regardless of the resolver. */
static int permit_add_localhost(struct permit *permit, struct permit_entry entry)
{
    static const uint8_t ipv4[16] = {[10] = 0xff, [11] = 0xff, 127, 0, 0, 1};
    static const uint8_t ipv6[16] = {[15] = 1};

    entry.name[0] = 0;
    entry.n_bits = 128;
    memcpy(entry.network, ipv4, sizeof(ipv4));
    int r = permit_add(permit, &entry);
    if (r)
        return r;
    memcpy(entry.network, ipv6, sizeof(ipv6));
    return permit_add(permit, &entry);
}

/* @word is changed; the parser's copy of it is for the message. */
static int parse_entry(const struct parser *parser, char *word, struct permit *permit)
{
    struct permit_entry entry = {0};
    char *host = NULL, *ports = NULL;
    bool is_bracketed = false;

    entry.is_udp = target_udp(word) != NULL;
    if (entry.is_udp)
        word += strlen(TARGET_UDP);
    int r = split_entry(parser, word, &host, &ports, &is_bracketed);
    if (r == 0)
        r = parse_host(parser, host, is_bracketed, &entry);
    if (r == 0)
        r = parse_ports(parser, ports, &entry);
    if (r)
        return r;
    if (permit->n + 2 > PERMIT_ENTRIES_MAX)
        return parser_fail(parser, "more than %d entries", PERMIT_ENTRIES_MAX - 1);
    return strcmp(entry.name, "localhost") == 0 ? permit_add_localhost(permit, entry)
                                                : permit_add(permit, &entry);
}

static int parse_word(const char *text, size_t n, struct permit *permit, char *ret_why, size_t cap)
{
    char word[WORD_MAX + 1], copy[WORD_MAX + 1];
    struct parser parser = {word, ret_why, cap};

    memcpy(word, text, GT_MIN(n, sizeof(word) - 1));
    word[GT_MIN(n, sizeof(word) - 1)] = 0;
    if (n > WORD_MAX)
        return parser_fail(&parser, "an entry has at most %d bytes", WORD_MAX);
    memcpy(copy, word, n + 1);
    return parse_entry(&parser, copy, permit);
}

int permit_parse(const char *text, struct permit *ret, char *ret_why, size_t cap)
{
    struct permit permit = {0};
    int r = 0;

    for (const char *at = text ? text : ""; r == 0 && *(at += strspn(at, " ")) != 0;) {
        size_t n = strcspn(at, " ");

        r = parse_word(at, n, &permit, ret_why, cap);
        at += n;
    }
    if (r)
        permit_deinit(&permit);
    else
        *ret = permit;
    return r;
}
