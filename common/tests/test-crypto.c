/* SPDX-License-Identifier: ISC */
/*
 * crypto.c against the vectors of the standards, and with inputs that OpenSSL accepts and we must
 * reject.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "vectors.h"

static struct gt_span hex_span(const char *text, uint8_t *buffer)
{
    return gt_span(buffer, unhex(text, buffer));
}

/* RFC 5869, appendix A (the SHA-256 ones). */
static void test_hkdf_matches_rfc_5869(void **state)
{
    static const struct {
        const char *ikm, *salt, *info, *prk, *okm;
    } vectors[] = {
        {"0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b", "000102030405060708090a0b0c",
         "f0f1f2f3f4f5f6f7f8f9", "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5",
         "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"},
        {"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
         "202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f"
         "404142434445464748494a4b4c4d4e4f",
         "606162636465666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7f"
         "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f"
         "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf",
         "b0b1b2b3b4b5b6b7b8b9babbbcbdbebfc0c1c2c3c4c5c6c7c8c9cacbcccdcecf"
         "d0d1d2d3d4d5d6d7d8d9dadbdcdddedfe0e1e2e3e4e5e6e7e8e9eaebecedeeef"
         "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff",
         "06a6b88c5853361a06104c9ceb35b45cef760014904671014a193f40c15fc244",
         "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c"
         "59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71"
         "cc30c58179ec3e87c14c01d5c1f3434f1d87"},
        {"0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b", "", "",
         "19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04",
         "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(vectors); i++) {
        uint8_t ikm[128], salt[128], info[128], want[128], prk[32], okm[128];

        assert_int_equal(
            gt_hkdf_extract(hex_span(vectors[i].salt, salt), hex_span(vectors[i].ikm, ikm), prk),
            0);
        unhex(vectors[i].prk, want);
        assert_memory_equal(prk, want, 32);
        size_t n = unhex(vectors[i].okm, want);
        assert_int_equal(gt_hkdf_expand(prk, hex_span(vectors[i].info, info), okm, n), 0);
        assert_memory_equal(okm, want, n);
    }
}

static void test_hkdf_rejects_invalid_lengths(void **state)
{
    static uint8_t out[255 * 32 + 1], info[1025];
    uint8_t prk[32] = {1};

    assert_int_equal(gt_hkdf_extract(gt_span("salt", 4), gt_span("", 0), prk), GT_CRYPTO_E_BAD);
    assert_int_equal(gt_hkdf_expand(prk, gt_span("", 0), out, 0), GT_CRYPTO_E_BAD);
    assert_int_equal(gt_hkdf_expand(prk, gt_span("", 0), out, 255 * 32), 0);
    assert_int_equal(gt_hkdf_expand(prk, gt_span("", 0), out, 255 * 32 + 1), GT_CRYPTO_E_BAD);
    assert_int_equal(gt_hkdf_expand(prk, gt_span(info, 1024), out, 32), 0);
    assert_int_equal(gt_hkdf_expand(prk, gt_span(info, 1025), out, 32), GT_CRYPTO_E_BAD);
    assert_int_equal(gt_hkdf_label(prk, "x", gt_span(info, 256), out, 32), 0);
    assert_int_equal(gt_hkdf_label(prk, "x", gt_span(info, 257), out, 32), GT_CRYPTO_E_BAD);
}

/* RFC 8448, section 3: write keys of the server for handshake data. */
static void test_expand_label_matches_rfc_8448(void **state)
{
    uint8_t secret[32], expected[32], out[32], context[33] = {0};

    unhex("b67b7d690cc16c4e75e54213cb2d37b4e9c912bcded9105d42befd59d391ad38", secret);
    assert_int_equal(gt_hkdf_expand_label(secret, "key", gt_span("", 0), out, 16), 0);
    unhex("3fce516009c21727d0f2e4e86ee403bc", expected);
    assert_memory_equal(out, expected, 16);
    assert_int_equal(gt_hkdf_expand_label(secret, "iv", gt_span("", 0), out, 12), 0);
    unhex("5d313eb2671276ee13000b30", expected);
    assert_memory_equal(out, expected, 12);
    assert_int_equal(gt_hkdf_expand_label(secret, "traffic upd", gt_span(context, 32), out, 32), 0);
    assert_int_equal(gt_hkdf_expand_label(secret, "a label that is far too long for TLS",
                                          gt_span(context, 32), out, 32),
                     GT_CRYPTO_E_BAD);
}

/* RFC 4231, cases 2 and 6, and an empty key. */
static void test_hmac_matches_rfc_4231(void **state)
{
    uint8_t key[131], want[32], got[32];
    struct gt_span parts[] = {gt_span_text("what do ya want "), gt_span("", 0),
                              gt_span_text("for nothing?")};

    assert_int_equal(gt_hmac(gt_span_text("Jefe"), parts, 3, got), 0);
    unhex("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843", want);
    assert_memory_equal(got, want, 32);
    memset(key, 0xaa, sizeof(key));
    parts[0] = gt_span_text("Test Using Larger Than Block-Size Key - Hash Key First");
    assert_int_equal(gt_hmac(gt_span(key, sizeof(key)), parts, 1, got), 0);
    unhex("60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54", want);
    assert_memory_equal(got, want, 32);
    assert_int_equal(gt_hmac(gt_span("", 0), NULL, 0, got), 0);
    unhex("b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad", want);
    assert_memory_equal(got, want, 32);
}

static void test_sha256_of_parts(void **state)
{
    uint8_t want[32], got[32];
    struct gt_span parts[] = {gt_span("a", 1), gt_span("b", 1), gt_span("", 0), gt_span("c", 1)};

    assert_int_equal(gt_sha256(parts, 4, got), 0);
    unhex("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", want);
    assert_memory_equal(got, want, 32);
    assert_int_equal(gt_sha256(NULL, 0, got), 0);
    unhex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", want);
    assert_memory_equal(got, want, 32);
}

/* RFC 7914, section 12: first half of the third vector. */
static void test_scrypt_matches_rfc_7914(void **state)
{
    uint8_t want[32], got[32];

    assert_int_equal(gt_scrypt(gt_span_text("pleaseletmein"), gt_span_text("SodiumChloride"), got),
                     0);
    unhex("7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2", want);
    assert_memory_equal(got, want, 32);
    assert_int_equal(gt_scrypt(gt_span("", 0), gt_span_text("salt"), got), GT_CRYPTO_E_BAD);
}

/* RFC 7748, sections 5.2 and 6.1. */
static void test_x25519_matches_rfc_7748(void **state)
{
    static const struct {
        const char *key, *peer, *shared;
    } vectors[] = {
        {"a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
         "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
         "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552"},
        {"4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
         "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
         "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957"},
        {"77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a",
         "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f",
         "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"},
    };
    uint8_t key[32], peer[32], want[32], got[32];

    for (size_t i = 0; i < GT_ARRAY_SIZE(vectors); i++) {
        unhex(vectors[i].key, key);
        unhex(vectors[i].peer, peer);
        unhex(vectors[i].shared, want);
        assert_int_equal(gt_x25519(key, peer, got), 0);
        assert_memory_equal(got, want, 32);
    }
    unhex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a", want);
    assert_int_equal(gt_x25519_public(key, got), 0);
    assert_memory_equal(got, want, 32);
}

/* RFC 7748, section 5.2: a thousand iterations. */
static void test_x25519_iterated_matches_rfc_7748(void **state)
{
    uint8_t k[32] = {9}, u[32] = {9}, next[32], want[32];

    for (int i = 0; i < 1000; i++) {
        assert_int_equal(gt_x25519(k, u, next), 0);
        memcpy(u, k, 32);
        memcpy(k, next, 32);
    }
    unhex("684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51", want);
    assert_memory_equal(k, want, 32);
}

static void test_x25519_rejects_low_order_points(void **state)
{
    static const char *points[] = {
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    };
    uint8_t key[32], point[32], got[32], before[32];

    hash_of("test x", key);
    memset(got, 0x5a, sizeof(got));
    memcpy(before, got, sizeof(got));
    for (size_t i = 0; i < 2 * GT_ARRAY_SIZE(points); i++) {
        unhex(points[i / 2], point);
        point[31] |= (uint8_t)(i % 2 << 7); /* the bit that X25519 ignores */
        assert_int_equal(gt_x25519(key, point, got), GT_CRYPTO_E_BAD);
        assert_memory_equal(got, before, 32);
    }
}

/* McGrew and Viega, The Galois/Counter Mode of Operation, appendix B: AES-256. */
static void test_aead_matches_known_vectors(void **state)
{
    static const struct {
        const char *key, *iv, *ad, *pt, *ct;
    } vectors[] = {
        {"0000000000000000000000000000000000000000000000000000000000000000",
         "000000000000000000000000", "", "", "530f8afbc74536b9a963b4f1c4cb738b"},
        {"0000000000000000000000000000000000000000000000000000000000000000",
         "000000000000000000000000", "", "00000000000000000000000000000000",
         "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919"},
        {"feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
         "cafebabefacedbaddecaf888", "feedfacedeadbeeffeedfacedeadbeefabaddad2",
         "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
         "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
         "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
         "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662"
         "76fc6ece0f4e1768cddf8853bb2d551b"},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(vectors); i++) {
        uint8_t keyiv[GT_KEYIV], ad_bytes[64], pt_bytes[64], want[80], got[80];

        unhex(vectors[i].key, keyiv);
        unhex(vectors[i].iv, keyiv + 32);
        struct gt_span ad = hex_span(vectors[i].ad, ad_bytes);
        struct gt_span pt = hex_span(vectors[i].pt, pt_bytes);
        size_t n = unhex(vectors[i].ct, want);
        assert_int_equal(n, pt.n + GT_TAG_SIZE);
        assert_int_equal(gt_aead_seal(keyiv, ad, pt, got), 0);
        assert_memory_equal(got, want, n);
        assert_int_equal(gt_aead_open(keyiv, ad, gt_span(want, n), got), 0);
        assert_memory_equal(got, pt.data, pt.n);
    }
}

/* Any changed bit of ciphertext or additional data is detected, and no plaintext is returned. */
static void test_aead_rejects_every_changed_bit(void **state)
{
    uint8_t keyiv[GT_KEYIV], ad[17], pt[33], ct[33 + GT_TAG_SIZE], out[33], before[33];

    dice_fill(keyiv, sizeof(keyiv));
    dice_fill(ad, sizeof(ad));
    dice_fill(pt, sizeof(pt));
    memset(out, 0x5a, sizeof(out));
    memcpy(before, out, sizeof(out));
    struct gt_span ad_span = gt_span(ad, sizeof(ad));
    assert_int_equal(gt_aead_seal(keyiv, ad_span, gt_span(pt, sizeof(pt)), ct), 0);
    for (size_t n = 0; n < sizeof(ct); n++)
        assert_int_equal(gt_aead_open(keyiv, ad_span, gt_span(ct, n), out), GT_CRYPTO_E_BAD);
    for (size_t bit = 0; bit < 8 * sizeof(ct); bit++) {
        ct[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_equal(gt_aead_open(keyiv, ad_span, gt_span(ct, sizeof(ct)), out),
                         GT_CRYPTO_E_BAD);
        ct[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    for (size_t bit = 0; bit < 8 * sizeof(ad); bit++) {
        ad[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_equal(gt_aead_open(keyiv, ad_span, gt_span(ct, sizeof(ct)), out),
                         GT_CRYPTO_E_BAD);
        ad[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    assert_memory_equal(out, before, sizeof(out));
    assert_int_equal(gt_aead_open(keyiv, ad_span, gt_span(ct, sizeof(ct)), out), 0);
    assert_memory_equal(out, pt, sizeof(out));
}

static void test_random_differs_and_equal_compares(void **state)
{
    uint8_t a[32] = {0}, b[32] = {0};

    assert_int_equal(gt_random(a, sizeof(a)), 0);
    assert_int_equal(gt_random(b, sizeof(b)), 0);
    assert_false(gt_is_equal(a, b, sizeof(a)));
    assert_true(gt_is_equal(a, a, sizeof(a)));
    assert_int_equal(gt_random(a, 0), 0);
    gt_wipe(a, sizeof(a));
    memset(b, 0, sizeof(b));
    assert_true(gt_is_equal(a, b, sizeof(a)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hkdf_matches_rfc_5869),
        cmocka_unit_test(test_hkdf_rejects_invalid_lengths),
        cmocka_unit_test(test_expand_label_matches_rfc_8448),
        cmocka_unit_test(test_hmac_matches_rfc_4231),
        cmocka_unit_test(test_sha256_of_parts),
        cmocka_unit_test(test_scrypt_matches_rfc_7914),
        cmocka_unit_test(test_x25519_matches_rfc_7748),
        cmocka_unit_test(test_x25519_iterated_matches_rfc_7748),
        cmocka_unit_test(test_x25519_rejects_low_order_points),
        cmocka_unit_test(test_aead_matches_known_vectors),
        cmocka_unit_test(test_aead_rejects_every_changed_bit),
        cmocka_unit_test(test_random_differs_and_equal_compares),
    };

    dice_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
