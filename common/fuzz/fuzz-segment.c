/* SPDX-License-Identifier: ISC */
/*
 * The record of a shared data connection. Each segment lies inside the record, after the one
 * before, and has one encoding: an accepted record is encoded to the same bytes.
 */
#include <assert.h>

#include "gotthard/proto/segment.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct gt_reader in = gt_reader(data, n);
    struct gt_segment segment;
    size_t at = 0;
    int r;

    while ((r = gt_segment_next(&in, &segment)) == 0) {
        uint8_t header[GT_SEGMENT_HEADER];
        struct gt_writer w = gt_writer(header, sizeof(header));

        assert(segment.data.n > 0 && segment.data.n <= GT_SEGMENT_MAX);
        assert(segment.data.data == data + at + GT_SEGMENT_HEADER);
        gt_segment_write(&w, &segment);
        assert(!w.failed && w.n == sizeof(header) && memcmp(header, data + at, w.n) == 0);
        at += GT_SEGMENT_HEADER + segment.data.n;
        assert(at <= n);
    }
    assert(r == GT_SEGMENT_E_BAD || at == n);
    return 0;
}
