/* SPDX-License-Identifier: ISC */
/*
 * The setting agent.permit: targets that an operator may reach beyond the named services. Without
 * it, none. A list of entries, separated by blanks, each a host and its ports:
 *
 *     192.168.1.0/24:80,443   a network, an address ([fd00::/8]:22, 10.0.0.5:*), or a name
 *     plc.local:102           (*.local: every name below it); ports with commas, ranges
 *                             (8000-8010), or * for all
 *     udp:10.0.0.0/8:161      the same of UDP
 *
 * An address is permitted by a network that contains it. Some ranges are special: loopback,
 * link-local, multicast, unspecified, reserved, and the metadata services of clouds. An entry
 * permits an address of these only if it lies inside the range, so that 0.0.0.0/0 opens none of
 * them, and a metadata address must be named itself. IPv4-mapped IPv6 is IPv4. `localhost` stands
 * for 127.0.0.1 and ::1.
 *
 * A name is permitted by its own entry, and its addresses by those of networks. A name that is
 * permitted leads to any address that is not special. The addresses of this machine in its networks
 * are not special: 192.168.1.0/24 contains the device's own, and so may what a name leads to.
 *
 * Pure: no lookup, no socket.
 */
#pragma once

#include "gotthard/net/sock.h"
#include "target.h"

#define PERMIT_TEXT_MAX    4096 /* bytes: as a value of the configuration */
#define PERMIT_ENTRIES_MAX 256
#define PERMIT_RANGES_MAX  16       /* of one entry */
#define PERMIT_NAME        "permit" /* the services of a pin and the service of a request name it */

struct permit_range {
    uint16_t first, last;
};

struct permit_entry {
    bool is_udp;
    char name[GT_HOST_MAX + 1]; /* lower case; ".local": all names below it; "": a network */
    uint8_t network[16];        /* of IPv6, or IPv4 mapped to it */
    uint8_t n_bits;             /* of the prefix: 0 to 128, of IPv4 96 and more */
    uint8_t n_ranges;
    struct permit_range ranges[PERMIT_RANGES_MAX];
};

/* A target that is no service, as an operator names it. */
struct permit_target {
    struct gt_host_port to;
    bool is_udp;
};

struct permit {                   /* a zeroed one permits nothing */
    struct permit_entry *entries; /* owned */
    size_t n;
};

enum { PERMIT_E_BAD = 1 };

/* Parses the setting; @text NULL or empty: nothing is permitted. E_BAD with the correct form,
 * one sentence, in @ret_why; -ENOMEM. */
int permit_parse(const char *text, struct permit *ret, char *ret_why, size_t cap) GT_MUST_CHECK;
void permit_deinit(struct permit *permit);

/*
 * Splits the target that an operator names: HOST:PORT, or PORT for a port of this machine, for UDP
 * after "udp:". Returns false if it is anything else, a service's name for example.
 */
bool permit_split(const char *text, struct permit_target *ret);
/* Returns true if a request for @target can be permitted: an address is, or a name might be,
 * depending on its addresses. */
bool permit_may_allow(const struct permit *permit, const struct permit_target *target);
/* Returns true if @target names a permitted name. */
bool permit_allows_name(const struct permit *permit, const struct permit_target *target);
/* Returns true if the address and port @addr may be connected to. @is_name_allowed: as
 * permit_allows_name() has it, for the name that was resolved. */
bool permit_allows_address(const struct permit *permit, const struct gt_addr *addr, bool is_udp,
                           bool is_name_allowed);
/* Returns true if @wide permits all that @narrow does. May be false for lists that differ in form
 * only: a range of ports that is split in two, for example. */
bool permit_covers(const struct permit *wide, const struct permit *narrow);
