/* SPDX-License-Identifier: ISC */
/*
 * The decisions about targets; the parser is permit-parse.c. All addresses have the form of IPv6,
 * so that one comparison of prefixes serves both families. An IPv6 network never contains an IPv4
 * address: ::/0 must not open the IPv4 networks of the device.
 */
#include "permit.h"

#include <strings.h>

#include "permit-private.h"

/* 0.0.0.0/0 has this many bits. */
#define IPV4_BITS 96

static const uint8_t ipv4_prefix[12] = {[10] = 0xff, [11] = 0xff};
static const uint8_t nat64_prefix[12] = {0x00, 0x64, 0xff, 0x9b};            /* RFC 6052 */
static const uint8_t local_nat64_prefix[6] = {0x00, 0x64, 0xff, 0x9b, 0, 1}; /* RFC 8215 */

struct special {
    uint8_t network[16];
    uint8_t n_bits;
};

#define SPECIAL_IPV4(a, b, c, d, bits)                           \
    {                                                            \
        {[10] = 0xff, [11] = 0xff, a, b, c, d}, IPV4_BITS + bits \
    }

/* RFC 6890; the last ones are metadata services. */
static const struct special specials[] = {
    SPECIAL_IPV4(0, 0, 0, 0, 8),
    SPECIAL_IPV4(127, 0, 0, 0, 8),
    SPECIAL_IPV4(169, 254, 0, 0, 16),
    SPECIAL_IPV4(224, 0, 0, 0, 4),
    SPECIAL_IPV4(240, 0, 0, 0, 4),
    SPECIAL_IPV4(255, 255, 255, 255, 32),
    {{0}, 96}, /* unspecified, loopback, IPv4-compatible */
    {{[15] = 1}, 128},
    {{0xfe, 0x80}, 10},
    {{0xff}, 8},
    SPECIAL_IPV4(169, 254, 169, 254, 32),                           /* AWS and others */
    SPECIAL_IPV4(168, 63, 129, 16, 32),                             /* Azure */
    SPECIAL_IPV4(100, 100, 100, 200, 32),                           /* Alibaba */
    SPECIAL_IPV4(192, 0, 0, 192, 32),                               /* Oracle, classic */
    {{0xfd, 0x00, 0x0e, 0xc2}, 32},                                 /* AWS */
    {{0xfd, 0x00, 0x0e, 0xc2, [14] = 0x02, [15] = 0x54}, 128},      /* of an instance */
    {{0xfd, 0x00, 0x0e, 0xc2, [15] = 0x23}, 128},                   /* of EKS */
    {{0xfd, 0x20, 0x00, 0xce, [14] = 0x02, [15] = 0x54}, 128},      /* Google */
    {{0xfd, 0x00, 0x00, 0xc1, [12] = 0xa9, 0xfe, 0xa9, 0xfe}, 128}, /* Oracle */
    {{0xfd, 0x00, 0x00, 0x42, [15] = 0x42}, 128},                   /* Scaleway */
};

/* The bytes that can hold the IPv4 address: with a prefix of 96, 48, 56, 64 bits (RFC 6052 section
 * 2.2). */
static const uint8_t embeddings[][4] = {
    {12, 13, 14, 15}, {6, 7, 9, 10}, {7, 9, 10, 11}, {9, 10, 11, 12}};

bool permit_has_prefix(const uint8_t address[static 16], const uint8_t network[static 16],
                       unsigned n_bits)
{
    unsigned n_bytes = n_bits / 8, n_left = n_bits % 8;

    if (memcmp(address, network, n_bytes) != 0)
        return false;
    return n_left == 0 ||
           ((address[n_bytes] ^ network[n_bytes]) & (0xff << (8 - n_left)) & 0xff) == 0;
}

static bool is_ipv4(const uint8_t address[static 16])
{
    return memcmp(address, ipv4_prefix, sizeof(ipv4_prefix)) == 0;
}

static bool is_ipv4_entry(const struct permit_entry *entry)
{
    return entry->n_bits >= IPV4_BITS && is_ipv4(entry->network);
}

/* Returns the bits of the narrowest special range that contains @address, or 0. */
static unsigned special_bits(const uint8_t address[static 16])
{
    unsigned n_bits = 0;

    for (size_t i = 0; i < GT_ARRAY_SIZE(specials); i++)
        if (permit_has_prefix(address, specials[i].network, specials[i].n_bits))
            n_bits = GT_MAX(n_bits, (unsigned)specials[i].n_bits);
    return n_bits;
}

/* The same of the IPv4 address inside @address, in the bytes @at. */
static unsigned embedded_bits(const uint8_t address[static 16], const uint8_t at[static 4])
{
    uint8_t inner[16];

    memcpy(inner, ipv4_prefix, sizeof(ipv4_prefix));
    for (size_t i = 0; i < 4; i++)
        inner[12 + i] = address[at[i]];
    return special_bits(inner);
}

/* Returns the bits that a network must have to permit @address: those of the narrowest special
 * range that contains it, or 0. A NAT64 address leads to the IPv4 address in it. The position of
 * that one is not known after the local-use prefix, so that each counts, except for zeros: they are
 * filling there. */
static unsigned required_bits(const uint8_t address[static 16])
{
    unsigned n_bits = special_bits(address);

    if (memcmp(address, nat64_prefix, sizeof(nat64_prefix)) == 0)
        return embedded_bits(address, embeddings[0]);
    if (memcmp(address, local_nat64_prefix, sizeof(local_nat64_prefix)) != 0)
        return n_bits;
    for (size_t i = 0; i < GT_ARRAY_SIZE(embeddings); i++)
        if (address[embeddings[i][0]] != 0)
            n_bits = GT_MAX(n_bits, embedded_bits(address, embeddings[i]));
    return n_bits;
}

static bool has_port(const struct permit_entry *entry, bool is_udp, uint16_t port)
{
    if (entry->is_udp != is_udp)
        return false;
    for (size_t i = 0; i < entry->n_ranges; i++)
        if (port >= entry->ranges[i].first && port <= entry->ranges[i].last)
            return true;
    return false;
}

static bool has_name(const struct permit_entry *entry, const char *name)
{
    size_t n = strlen(name), n_entry = strlen(entry->name);

    if (entry->name[0] != '.')
        return strcasecmp(entry->name, name) == 0;
    return n > n_entry && strcasecmp(name + n - n_entry, entry->name) == 0;
}

bool permit_normalize(const struct gt_addr *addr, uint8_t ret[static 16])
{
    if (addr->any.sa_family == AF_INET) {
        memcpy(ret, ipv4_prefix, sizeof(ipv4_prefix));
        memcpy(ret + sizeof(ipv4_prefix), &addr->v4.sin_addr, 4);
        return true;
    }
    if (addr->any.sa_family != AF_INET6)
        return false;
    memcpy(ret, &addr->v6.sin6_addr, 16);
    return true;
}

static bool has_address(const struct permit_entry *entry, const uint8_t address[static 16])
{
    return !entry->name[0] && is_ipv4_entry(entry) == is_ipv4(address) &&
           permit_has_prefix(address, entry->network, entry->n_bits) &&
           entry->n_bits >= required_bits(address);
}

bool permit_allows_name(const struct permit *permit, const struct permit_target *target)
{
    const struct gt_host_port *to = &target->to;

    for (size_t i = 0; i < permit->n; i++) {
        const struct permit_entry *entry = &permit->entries[i];

        if (entry->name[0] && has_port(entry, target->is_udp, to->port) &&
            has_name(entry, to->host))
            return true;
    }
    return false;
}

bool permit_allows_address(const struct permit *permit, const struct gt_addr *addr, bool is_udp,
                           bool is_name_allowed)
{
    uint8_t address[16];

    if (!permit_normalize(addr, address))
        return false;
    if (is_name_allowed && required_bits(address) == 0)
        return true;
    for (size_t i = 0; i < permit->n; i++)
        if (has_port(&permit->entries[i], is_udp, gt_addr_port(addr)) &&
            has_address(&permit->entries[i], address))
            return true;
    return false;
}

bool permit_split(const char *text, struct permit_target *ret)
{
    const char *udp = target_udp(text);
    uint64_t port;

    ret->is_udp = udp != NULL;
    text = udp ? udp : text;
    if (gt_text_number(text, 1, UINT16_MAX, &port) == 0) {
        ret->to = (struct gt_host_port){.host = "localhost", .port = (uint16_t)port};
        return true;
    }
    return gt_text_host_port(text, 0, ret->to.host, &ret->to.port) == 0;
}

bool permit_may_allow(const struct permit *permit, const struct permit_target *target)
{
    const struct gt_host_port *to = &target->to;
    struct gt_addr addr;

    if (gt_addr_parse(to->host, to->port, &addr) == 0)
        return permit_allows_address(permit, &addr, target->is_udp, false);
    for (size_t i = 0; i < permit->n; i++)
        if (!permit->entries[i].name[0] && has_port(&permit->entries[i], target->is_udp, to->port))
            return true;
    return permit_allows_name(permit, target);
}

/* --- one list inside another --------------------------------------------------------------------
 */

static bool entry_covers_host(const struct permit_entry *wide, const struct permit_entry *narrow)
{
    unsigned n_required;

    if (wide->name[0] || narrow->name[0])
        return wide->name[0] && narrow->name[0] &&
               (strcmp(wide->name, narrow->name) == 0 || has_name(wide, narrow->name));
    if (is_ipv4_entry(wide) != is_ipv4_entry(narrow) || wide->n_bits > narrow->n_bits ||
        !permit_has_prefix(narrow->network, wide->network, wide->n_bits))
        return false;
    n_required = required_bits(narrow->network);
    return narrow->n_bits < n_required || wide->n_bits >= n_required;
}

static bool entry_covers_range(const struct permit_entry *wide, const struct permit_range *range)
{
    for (size_t i = 0; i < wide->n_ranges; i++)
        if (wide->ranges[i].first <= range->first && wide->ranges[i].last >= range->last)
            return true;
    return false;
}

static bool is_range_covered(const struct permit *wide, const struct permit_entry *narrow,
                             const struct permit_range *range)
{
    for (size_t i = 0; i < wide->n; i++)
        if (wide->entries[i].is_udp == narrow->is_udp &&
            entry_covers_host(&wide->entries[i], narrow) &&
            entry_covers_range(&wide->entries[i], range))
            return true;
    return false;
}

bool permit_covers(const struct permit *wide, const struct permit *narrow)
{
    for (size_t i = 0; i < narrow->n; i++)
        for (size_t k = 0; k < narrow->entries[i].n_ranges; k++)
            if (!is_range_covered(wide, &narrow->entries[i], &narrow->entries[i].ranges[k]))
                return false;
    return true;
}

void permit_deinit(struct permit *permit)
{
    free(permit->entries);
    *permit = (struct permit){0};
}
