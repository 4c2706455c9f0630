/* SPDX-License-Identifier: ISC */
/*
 * The first bytes of a data connection. A JOIN has one spelling: what is taken is written back the
 * same, could begin at each of its lengths, and what could not begin is never taken.
 */
#include "gotthard/join.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct gt_join join;
    uint8_t again[GT_JOIN_SIZE];
    bool may_begin = true;
    for (size_t i = 1; i <= GT_MIN(n, (size_t)GT_JOIN_SIZE); i++) {
        bool may_still = gt_join_may_begin(data, i);
        if (may_still && !may_begin)
            abort();
        may_begin = may_still;
    }
    if (n < GT_JOIN_SIZE || gt_join_decode(data, &join) != 0)
        return 0;
    gt_join_encode(&join, again);
    if (!may_begin || memcmp(again, data, GT_JOIN_SIZE) != 0)
        abort();
    return 0;
}
