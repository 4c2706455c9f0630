/* SPDX-License-Identifier: ISC */
/*
 * A ring compared with an array that keeps everything. The input is a list of operations of two
 * bytes each. Both must have the same bytes at the same offsets after every operation.
 */
#include <assert.h>

#include "gotthard/base/ring.h"

static uint8_t all[1 << 20];

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct gt_reader in = gt_reader(data, n);
    struct gt_ring ring;
    struct gt_borrowed borrowed = {0};
    uint8_t out[4096];

    gt_ring_init(&ring, gt_read_u16(&in));
    while (in.left && !in.failed && ring.tail < sizeof(all) - 65536) {
        uint8_t what = gt_read_u8(&in);
        size_t k = (size_t)gt_read_u8(&in) << (what >> 4 & 7);

        switch (what & 3) {
        case 0:
            k = GT_MIN(k, gt_ring_free(&ring));
            for (size_t i = 0; i < k; i++)
                all[ring.tail + i] = (uint8_t)(ring.tail + i * what + k);
            assert(gt_ring_write(&ring, all + ring.tail, k) == 0);
            break;
        case 1: gt_ring_drop(&ring, GT_MIN(k, gt_ring_used(&ring))); break;
        case 2:
            gt_ring_copy_borrowed(&ring);
            k = GT_MIN(k, gt_ring_used(&ring));
            assert(gt_ring_copy(&ring, ring.tail - k, out, sizeof(out)) == GT_MIN(k, sizeof(out)));
            assert(memcmp(out, all + ring.tail - k, GT_MIN(k, sizeof(out))) == 0);
            break;
        default:
            gt_ring_copy_borrowed(&ring);
            ring.borrowed = what & 4 ? &borrowed : NULL;
            gt_ring_release(&ring);
        }
        assert(gt_ring_used(&ring) + gt_ring_free(&ring) == ring.capacity);
    }
    gt_ring_deinit(&ring);
    return 0;
}
