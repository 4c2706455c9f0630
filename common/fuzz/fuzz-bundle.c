/* SPDX-License-Identifier: ISC */
/*
 * Bundles, of an answer or a file. One that is decoded is encoded to a bundle of the same entries,
 * and one that is accepted has a valid name and values that fit between quotes.
 */
#include "gotthard/trust/bundle.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void must(bool condition)
{
    if (!condition)
        abort();
}

static void check_again(const struct gt_bundle *bundle)
{
    size_t size = gt_bundle_size(bundle), n = 0;
    char why[GT_BUNDLE_WHY];
    struct gt_bundle again;
    uint8_t *bytes = malloc(size);

    must(bytes && gt_bundle_encode(bundle, bytes, size, &n, why) == 0 && n == size);
    must(gt_bundle_decode(gt_span(bytes, n), &again, why) == 0 && again.kind == bundle->kind);
    for (size_t i = 0; i < GT_BUNDLE_N; i++)
        must(gt_span_equals(again.entries[i], bundle->entries[i]));
    free(bytes);
}

static void check_accepted(const struct gt_bundle *bundle)
{
    struct gt_span name = bundle->entries[GT_BUNDLE_NAME];
    struct gt_span broker = bundle->entries[GT_BUNDLE_BROKER];

    must(!name.n || gt_text_is_name(name));
    must(!broker.n || (!memchr(broker.data, '"', broker.n) && gt_text_is_ascii(broker)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct gt_bundle bundle;
    char why[GT_BUNDLE_WHY];

    if (gt_bundle_decode(gt_span(data, n), &bundle, why) != 0)
        return 0;
    check_again(&bundle);
    for (int is_file = 0; is_file < 2; is_file++)
        if (gt_bundle_check(&bundle, is_file, why) == 0)
            check_accepted(&bundle);
    return 0;
}
