/* SPDX-License-Identifier: ISC */
/*
 * seal.c: sealed messages of every length open. Changed or truncated ones, and those for another
 * key, do not. Equal messages have different ciphertexts.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gotthard/crypto/seal.h"
#include "vectors.h"

static void test_sealed_text_opens_at_every_length(void **state)
{
    static const size_t sizes[] = {0, 1, 15, 16, 17, 31, 32, 33, 255, 4096, 8139};
    static uint8_t pt[8192], sealed[8192 + GT_SEAL_OVERHEAD], out[8192];
    uint8_t key[32];

    dice_fill(key, sizeof(key));
    dice_fill(pt, sizeof(pt));
    for (size_t i = 0; i < GT_ARRAY_SIZE(sizes); i++) {
        struct gt_span ad = gt_span(pt, sizes[i] % 97);

        assert_int_equal(gt_seal(key, ad, gt_span(pt, sizes[i]), sealed), 0);
        struct gt_span whole = gt_span(sealed, sizes[i] + GT_SEAL_OVERHEAD);
        assert_int_equal(gt_unseal(key, ad, whole, out), 0);
        assert_memory_equal(out, pt, sizes[i]);
    }
}

static void test_unseal_rejects_every_change(void **state)
{
    uint8_t key[32], pt[40], sealed[40 + GT_SEAL_OVERHEAD], out[40], before[40];
    struct gt_span ad = gt_span_text("GTM1 additional data");

    dice_fill(key, sizeof(key));
    dice_fill(pt, sizeof(pt));
    memset(out, 0x5a, sizeof(out));
    memcpy(before, out, sizeof(out));
    assert_int_equal(gt_seal(key, ad, gt_span(pt, sizeof(pt)), sealed), 0);
    for (size_t n = 0; n < sizeof(sealed); n++)
        assert_int_equal(gt_unseal(key, ad, gt_span(sealed, n), out), GT_CRYPTO_E_BAD);
    struct gt_span whole = gt_span(sealed, sizeof(sealed));
    for (size_t bit = 0; bit < 8 * sizeof(sealed); bit++) {
        sealed[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_equal(gt_unseal(key, ad, whole, out), GT_CRYPTO_E_BAD);
        sealed[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    for (size_t bit = 0; bit < 8 * sizeof(key); bit++) {
        key[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_equal(gt_unseal(key, ad, whole, out), GT_CRYPTO_E_BAD);
        key[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    for (size_t n = 0; n < ad.n; n++)
        assert_int_equal(gt_unseal(key, gt_span(ad.data, n), whole, out), GT_CRYPTO_E_BAD);
    assert_memory_equal(out, before, sizeof(out));
    assert_int_equal(gt_unseal(key, ad, whole, out), 0);
}

static void test_equal_messages_seal_differently(void **state)
{
    uint8_t key[32] = {1}, a[4 + GT_SEAL_OVERHEAD], b[4 + GT_SEAL_OVERHEAD];

    assert_int_equal(gt_seal(key, gt_span("", 0), gt_span("same", 4), a), 0);
    assert_int_equal(gt_seal(key, gt_span("", 0), gt_span("same", 4), b), 0);
    assert_memory_not_equal(a, b, 32);
    assert_memory_not_equal(a + 32, b + 32, 4);
}

static void test_seal_rejects_invalid_lengths(void **state)
{
    static uint8_t ad[65536];
    uint8_t key[32] = {1}, sealed[1 + GT_SEAL_OVERHEAD], out[1];

    assert_int_equal(gt_seal(key, gt_span(ad, 65535), gt_span("x", 1), sealed), 0);
    assert_int_equal(gt_unseal(key, gt_span(ad, 65535), gt_span(sealed, sizeof(sealed)), out), 0);
    assert_int_equal(gt_seal(key, gt_span(ad, 65536), gt_span("x", 1), sealed), GT_CRYPTO_E_BAD);
    assert_int_equal(gt_unseal(key, gt_span(ad, 65536), gt_span(sealed, sizeof(sealed)), out),
                     GT_CRYPTO_E_BAD);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sealed_text_opens_at_every_length),
        cmocka_unit_test(test_unseal_rejects_every_change),
        cmocka_unit_test(test_equal_messages_seal_differently),
        cmocka_unit_test(test_seal_rejects_invalid_lengths),
    };

    dice_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
