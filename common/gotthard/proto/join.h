/* SPDX-License-Identifier: ISC */
/*
 * Tickets, and the 64 bytes that spend one on a data connection. See docs/protocol.md, section 3.
 */
#pragma once

#include "gotthard/key.h"

#define GT_JOIN_SIZE       64
#define GT_JOIN_REPLY_SIZE 8
#define GT_TICKET_ID_SIZE  16
#define GT_TICKET_TTL_S    30

struct gt_ticket {
    uint32_t stream, attempt; /* both count from 1; 0 is E_BAD on every wire */
    uint8_t id[GT_TICKET_ID_SIZE];
    uint8_t secret[GT_KEY_SIZE];
    uint16_t ttl_s;
};

struct gt_join {
    enum gt_role role;
    uint32_t stream, attempt;
    uint8_t id[GT_TICKET_ID_SIZE];
    uint8_t secret[GT_KEY_SIZE];
};

enum { GT_JOIN_E_BAD = 1 };

void gt_join_encode(const struct gt_join *join, uint8_t ret[static GT_JOIN_SIZE]);
/* Exactly GT_JOIN_SIZE bytes; the form only: the ticket is the relay's to check. */
int gt_join_decode(const uint8_t in[static GT_JOIN_SIZE], struct gt_join *ret) GT_MUST_CHECK;
/* Could @n (1..64) first bytes still become a JOIN? Lets the relay let go of strangers early. */
bool gt_join_may_begin(const uint8_t *in, size_t n);

extern const uint8_t gt_join_reply[GT_JOIN_REPLY_SIZE];
