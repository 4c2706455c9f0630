/* SPDX-License-Identifier: ISC */
/*
 * Arbitrary bytes never open as a sealed message. A message that was sealed opens, and does not
 * after one bit was changed. The first four bytes of the input select the bit.
 */
#include "gotthard/crypto/seal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const uint8_t key[GT_KEY_SIZE] = {1, 2, 3};

static void must(bool is_so)
{
    if (!is_so)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static uint8_t sealed[4096 + GT_SEAL_OVERHEAD], out[4096 + GT_SEAL_OVERHEAD];
    struct gt_reader r = gt_reader(data, n);
    uint32_t bit = gt_read_u32(&r);
    struct gt_span ad = gt_read_bytes(&r, GT_MIN(r.left, (size_t)8)), pt = gt_span(r.at, r.left);

    if (pt.n > 4096)
        return 0;
    must(gt_unseal(key, ad, pt, out) == GT_CRYPTO_E_BAD);
    must(gt_seal(key, ad, pt, sealed) == 0);
    struct gt_span whole = gt_span(sealed, pt.n + GT_SEAL_OVERHEAD);
    must(gt_unseal(key, ad, whole, out) == 0);
    must(pt.n == 0 || memcmp(out, pt.data, pt.n) == 0);
    bit %= (uint32_t)(8 * whole.n);
    sealed[bit / 8] ^= (uint8_t)(1 << bit % 8);
    must(gt_unseal(key, ad, whole, out) == GT_CRYPTO_E_BAD);
    return 0;
}
