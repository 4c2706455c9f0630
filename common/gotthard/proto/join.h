/* SPDX-License-Identifier: ISC */
/*
 * Tickets, and the JOIN of 64 bytes that redeems one on a data connection to the relay. See
 * docs/protocol.md, section 3.
 */
#pragma once

#include "gotthard/crypto/key.h"

#define GT_JOIN_SIZE       64 /* bytes */
#define GT_JOIN_REPLY_SIZE 8
#define GT_TICKET_ID_SIZE  16
#define GT_TICKET_TTL_S    30

struct gt_ticket {
    uint32_t stream;  /* 0: the session's shared connection */
    uint32_t attempt; /* from 1; 0 is malformed in every message */
    uint8_t id[GT_TICKET_ID_SIZE];
    uint8_t secret[GT_KEY_SIZE];
    uint16_t ttl_s;
    uint16_t segment; /* of TCP, in bytes, at most; 0: no limit. From OPEN; for both sides */
};

struct gt_join {
    enum gt_role role;
    uint32_t stream, attempt;
    uint8_t id[GT_TICKET_ID_SIZE];
    uint8_t secret[GT_KEY_SIZE];
};

enum { GT_JOIN_E_BAD = 1 }; /* malformed */

void gt_join_encode(const struct gt_join *join, uint8_t ret[static GT_JOIN_SIZE]);
/* Decodes exactly GT_JOIN_SIZE bytes. Checks the form only; the relay checks the ticket. Returns 0
 * or GT_JOIN_E_BAD. */
int gt_join_decode(const uint8_t in[static GT_JOIN_SIZE], struct gt_join *ret) GT_MUST_CHECK;
/* Returns true if the @n first bytes (1 to 64) can be the beginning of a JOIN. The relay uses it to
 * close other connections early. */
bool gt_join_may_begin(const uint8_t *in, size_t n);

/* The relay's answer to the first of two valid JOINs: it waits for the other side. Only a relay
 * that received the JOIN can send it. */
extern const uint8_t gt_join_receipt[GT_JOIN_REPLY_SIZE];
/* The relay's reply after both sides joined. */
extern const uint8_t gt_join_reply[GT_JOIN_REPLY_SIZE];
