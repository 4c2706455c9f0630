/* SPDX-License-Identifier: ISC */
/* Arbitrary text as a file of device keys. An accepted one has the key of each device once. */
#include "gotthard/trust/device-keys.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct gt_device_keys keys = {0};
    const char *why = NULL;
    size_t line = 0;
    uint8_t out[GT_KEY_SIZE];
    int r = gt_device_keys_parse(gt_span(data, n), &keys, &line, &why);

    if (r > 0 && (line == 0 || !why))
        abort();
    if (r == 0 && (keys.n > n / 44 || gt_device_keys_find(&keys, "not/a/name", out)))
        abort();
    gt_device_keys_deinit(&keys);
    return 0;
}
