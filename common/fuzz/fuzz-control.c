/* SPDX-License-Identifier: ISC */
/*
 * A sequence of control frames, decoded one after another. An accepted frame is encoded to the same
 * bytes, and the result of a frame does not depend on the bytes after it.
 */
#include "gotthard/proto/control.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check_good(const struct gt_control_frame *frame, const uint8_t *in, size_t used)
{
    uint8_t again[GT_CONTROL_FRAME_MAX];

    if (gt_control_encode(frame, again) != used || memcmp(again, in, used) != 0)
        abort();
}

/* Checks the same frame without the bytes after it, and without its last byte. */
static void check_alone(const uint8_t *in, size_t used, int r)
{
    struct gt_control_frame frame;
    size_t used_alone = 0;

    if (gt_control_decode(in, used, &frame, &used_alone) != r || used_alone != used)
        abort();
    if (gt_control_decode(in, used - 1, &frame, &used_alone) != GT_CONTROL_E_SHORT)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct gt_control_frame frame;

    for (size_t at = 0, used = 0; at < n; at += used) {
        int r = gt_control_decode(data + at, n - at, &frame, &used);

        if (r == GT_CONTROL_E_SHORT || r == GT_CONTROL_E_BAD)
            return 0;
        if (used < GT_CONTROL_HEADER || used > n - at)
            abort();
        if (r == 0)
            check_good(&frame, data + at, used);
        check_alone(data + at, used, r);
    }
    (void)gt_code_text(n ? data[0] : 0);
    return 0;
}
