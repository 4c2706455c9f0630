/* SPDX-License-Identifier: ISC */
/*
 * Decodes arbitrary bytes as the contents of a session file. An accepted session has a pid that may
 * be signalled and well-formed names, and its encoding has the same bytes.
 */
#include "session-info.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void must(bool condition)
{
    if (!condition)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static uint8_t bytes[WORKER_PARAMETERS_MAX];
    struct session_info info;
    size_t n_bytes;

    int r = session_info_decode(gt_span(data, n), &info);
    if (r) {
        must(r == SESSION_INFO_E_BAD);
        return 0;
    }
    must(info.pid >= 2);
    must(gt_text_is_name(gt_span_text(info.device)));
    must(gt_text_is_name(gt_span_text(info.operator_)));
    r = session_info_encode(&info, bytes, &n_bytes);
    must(r == 0 || n > WORKER_PARAMETERS_MAX);
    must(r || (n_bytes == n && memcmp(bytes, data, n) == 0));
    session_info_deinit(&info);
    return 0;
}
