/* SPDX-License-Identifier: ISC */
/*
 * The access list in parts, as MQTT messages and control frames carry it. Each part is signed by
 * itself, so that only the authority's parts take up memory, and states serial, size and hash of
 * the whole. A text of n bytes in k parts has its part i from byte i*n/k to (i+1)*n/k. See
 * docs/protocol.md, section 7. Pure.
 */
#pragma once

#include "gotthard/trust/access-list.h"

#define GT_ACCESS_PIECE_MQTT    7900 /* bytes of the text in a part; the message fits 8192 */
#define GT_ACCESS_PIECE_CONTROL 800  /* in a control frame */
#define GT_ACCESS_PARTS_MAX     4096
#define GT_ACCESS_PART_MAX      8192 /* bytes of an encoded part */

struct gt_access_part {
    uint64_t serial;
    uint32_t size; /* of the whole text, in bytes */
    uint16_t part, parts;
    uint8_t hash[GT_KEY_SIZE]; /* SHA-256 of the whole text */
    struct gt_span piece;      /* borrows from the payload */
    struct gt_span body;       /* borrows: all that is signed */
    uint8_t signature[GT_ED25519_SIGNATURE_SIZE];
};

enum {
    GT_ACCESS_PART_E_BAD = 1, /* malformed, or not signed by this authority */
    GT_ACCESS_PART_E_OLD,     /* not newer than the list in force, or than the one being received */
    GT_ACCESS_PART_E_TWICE,   /* this part has been received */
    GT_ACCESS_PART_E_MORE,    /* accepted; other parts are missing */
};

/* Returns the number of parts of at most @piece_max bytes. @size: GT_ACCESS_TEXT_MAX at most. */
size_t gt_access_parts_count(size_t size, size_t piece_max);
/*
 * Writes and signs part @part of @parts. @key: the authority's private key. @text: a whole list, as
 * gt_access_list_sign() makes it, of this serial. @ret: GT_ACCESS_PART_MAX. Returns 0, E_BAD if a
 * number is not possible, or a negative errno.
 */
int gt_access_part_encode(const uint8_t key[static GT_KEY_SIZE], struct gt_span text,
                          uint64_t serial, size_t part, size_t parts, uint8_t *ret,
                          size_t *ret_n) GT_MUST_CHECK;
/* Reads a part without verifying its signature. Returns 0 or E_BAD. */
int gt_access_part_decode(struct gt_span payload, struct gt_access_part *ret) GT_MUST_CHECK;

/* The list that is being received: one at a time, that of the greatest serial. */
struct gt_access_assembly { /* fields are private */
    uint64_t serial;        /* 0: none */
    uint32_t size;
    uint16_t parts, n_missing;
    uint8_t hash[GT_KEY_SIZE];
    uint8_t *text; /* owned, ->size bytes */
    bool *has;     /* owned, ->parts */
};

void gt_access_assembly_init(struct gt_access_assembly *assembly);
void gt_access_assembly_deinit(struct gt_access_assembly *assembly);
/*
 * Adds a part. @in_force: the serial of the list in force, 0 for none. Returns 0 when the text is
 * whole: *ret_text is then the caller's, with *ret_n bytes, and still has to be opened
 * (gt_access_list_open). Otherwise E_x, or a negative errno. A part that is damaged, repeated,
 * older, or not of this authority changes nothing. One of a greater serial, or of another text with
 * the same serial, replaces the parts received so far.
 */
int gt_access_assembly_add(struct gt_access_assembly *assembly, struct gt_span payload,
                           const uint8_t authority[static GT_KEY_SIZE], uint64_t in_force,
                           uint8_t **ret_text, size_t *ret_n) GT_MUST_CHECK;
