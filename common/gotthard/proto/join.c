/* SPDX-License-Identifier: ISC */
/*
 * The form of a JOIN: "GTJ1" ver role 0 0 || stream u32 || attempt u32 || ticket id 16 || ticket
 * secret 32. It is the first input of an unauthenticated client. Each JOIN therefore has exactly
 * one encoding, without optional parts. Whether the ticket is valid is never decided here.
 */
#include "gotthard/proto/join.h"

#include <assert.h>

#include "gotthard/base/fields.h"

#define JOIN_VERSION 1
#define JOIN_PREFIX  8 /* bytes before the stream number: magic, version, role, two zeros */

static const uint8_t magic[4] = {'G', 'T', 'J', '1'};

const uint8_t gt_join_receipt[GT_JOIN_REPLY_SIZE] = {'G', 'T', 'J', '1', JOIN_VERSION, 1, 0, 0};
const uint8_t gt_join_reply[GT_JOIN_REPLY_SIZE] = {'G', 'T', 'J', '1', JOIN_VERSION, 0, 0, 0};

/* The rows after the prefix. */
#define ROWS(ROW)                     \
    ROW(U32, stream)                  \
    ROW(ORDINAL32, attempt)           \
    ROW(BYTES, id, GT_TICKET_ID_SIZE) \
    ROW(BYTES, secret, GT_KEY_SIZE)
#define FIELD(kind, ...)        GT_FIELD_##kind(struct gt_join, __VA_ARGS__),
#define SIZE(kind, member, ...) +GT_FIELD_WIRE_##kind(__VA_ARGS__)

static const struct gt_field fields[] = {ROWS(FIELD)};
static_assert(JOIN_PREFIX ROWS(SIZE) == GT_JOIN_SIZE, "JOIN: size differs from the protocol");

void gt_join_encode(const struct gt_join *join, uint8_t ret[static GT_JOIN_SIZE])
{
    struct gt_writer w = gt_writer(ret, GT_JOIN_SIZE);

    gt_write_bytes(&w, magic, sizeof(magic));
    gt_write_u8(&w, JOIN_VERSION);
    gt_write_u8(&w, (uint8_t)join->role);
    gt_write_u16(&w, 0);
    gt_fields_write(&w, fields, GT_ARRAY_SIZE(fields), join);
}

int gt_join_decode(const uint8_t in[static GT_JOIN_SIZE], struct gt_join *ret)
{
    struct gt_reader r = gt_reader(in, GT_JOIN_SIZE);
    struct gt_join join;

    if (!gt_join_may_begin(in, GT_JOIN_SIZE))
        return GT_JOIN_E_BAD;
    gt_read_bytes(&r, JOIN_PREFIX);
    join.role = in[5] == GT_ROLE_OPERATOR ? GT_ROLE_OPERATOR : GT_ROLE_DEVICE;
    gt_fields_read(&r, fields, GT_ARRAY_SIZE(fields), &join);
    bool is_valid = gt_reader_is_done(&r);
    if (is_valid)
        *ret = join;
    gt_wipe(&join, sizeof(join));
    return is_valid ? 0 : GT_JOIN_E_BAD;
}

bool gt_join_may_begin(const uint8_t *in, size_t n)
{
    const uint8_t operators[JOIN_PREFIX] = {'G', 'T', 'J', '1', JOIN_VERSION, GT_ROLE_OPERATOR};
    const uint8_t devices[JOIN_PREFIX] = {'G', 'T', 'J', '1', JOIN_VERSION, GT_ROLE_DEVICE};
    size_t n_checked = GT_MIN(n, (size_t)JOIN_PREFIX);

    return memcmp(in, operators, n_checked) == 0 || memcmp(in, devices, n_checked) == 0;
}
