/* SPDX-License-Identifier: ISC */
/*
 * The first bytes of a data connection. A JOIN has one encoding. An accepted one is encoded to the
 * same bytes, and gt_join_may_begin() accepts each of its prefixes.
 */
#include "gotthard/proto/join.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct gt_join join;
    uint8_t again[GT_JOIN_SIZE];
    bool may_begin = true;

    for (size_t i = 1; i <= GT_MIN(n, (size_t)GT_JOIN_SIZE); i++) {
        bool still_may_begin = gt_join_may_begin(data, i);

        if (still_may_begin && !may_begin)
            abort();
        may_begin = still_may_begin;
    }
    if (n < GT_JOIN_SIZE || gt_join_decode(data, &join) != 0)
        return 0;
    gt_join_encode(&join, again);
    if (!may_begin || memcmp(again, data, GT_JOIN_SIZE) != 0)
        abort();
    return 0;
}
