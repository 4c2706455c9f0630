/* SPDX-License-Identifier: ISC */
/*
 * The form of a JOIN: "GTJ1" ver role 0 0 || stream u32 || attempt u32 || ticket id 16 || ticket
 * secret 32. Strangers may send anything here, so there is exactly one good spelling of each JOIN
 * and nothing in it is optional. Whether the ticket is good is never decided here.
 */
#include "gotthard/join.h"

#define JOIN_VERSION 1
#define JOIN_PREFIX  8 /* magic, version, role, two zeros: what can be judged before the ticket */

static const uint8_t magic[4] = {'G', 'T', 'J', '1'};

const uint8_t gt_join_reply[GT_JOIN_REPLY_SIZE] = {'G', 'T', 'J', '1', JOIN_VERSION, 0, 0, 0};

void gt_join_encode(const struct gt_join *join, uint8_t ret[static GT_JOIN_SIZE])
{
    struct gt_writer w = gt_writer(ret, GT_JOIN_SIZE);
    gt_write_bytes(&w, magic, sizeof(magic));
    gt_write_u8(&w, JOIN_VERSION);
    gt_write_u8(&w, (uint8_t)join->role);
    gt_write_u16(&w, 0);
    gt_write_u32(&w, join->stream);
    gt_write_u32(&w, join->attempt);
    gt_write_bytes(&w, join->id, sizeof(join->id));
    gt_write_bytes(&w, join->secret, sizeof(join->secret));
}

int gt_join_decode(const uint8_t in[static GT_JOIN_SIZE], struct gt_join *ret)
{
    struct gt_reader r = gt_reader(in, GT_JOIN_SIZE);
    struct gt_join join;
    if (!gt_join_may_begin(in, GT_JOIN_SIZE))
        return GT_JOIN_E_BAD;
    gt_read_bytes(&r, JOIN_PREFIX);
    join.role = in[5] == GT_ROLE_OPERATOR ? GT_ROLE_OPERATOR : GT_ROLE_DEVICE;
    join.stream = gt_read_u32(&r);
    join.attempt = gt_read_u32(&r);
    gt_read_into(&r, join.id, sizeof(join.id));
    gt_read_into(&r, join.secret, sizeof(join.secret));
    bool is_good = gt_reader_is_done(&r) && join.stream != 0 && join.attempt != 0;
    if (is_good)
        *ret = join;
    gt_wipe(&join, sizeof(join));
    return is_good ? 0 : GT_JOIN_E_BAD;
}

bool gt_join_may_begin(const uint8_t *in, size_t n)
{
    const uint8_t operators[JOIN_PREFIX] = {'G', 'T', 'J', '1', JOIN_VERSION, GT_ROLE_OPERATOR};
    const uint8_t devices[JOIN_PREFIX] = {'G', 'T', 'J', '1', JOIN_VERSION, GT_ROLE_DEVICE};
    size_t n_judged = GT_MIN(n, (size_t)JOIN_PREFIX);
    return memcmp(in, operators, n_judged) == 0 || memcmp(in, devices, n_judged) == 0;
}
