/* SPDX-License-Identifier: ISC */
/*
 * key-text.c: each damage that happens to a key between `keygen` and a program is rejected with its
 * cause, and passphrases that people choose are accepted.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gotthard/crypto/key-text.h"

#define HEX   "00112233445566778899aabbccddeeff0123456789abcdeffedcba9876543210"
#define HEX63 "00112233445566778899aabbccddeeff0123456789abcdeffedcba987654321"
#define BASE  "ABEiM0RVZneImaq7zN3u/wEjRWeJq83v/ty6mHZUMhA="
#define BASE1 "ABEiM0RVZneImaq7zN3u_wEjRWeJq83v_ty6mHZUMh"
#define GK1   "gk1r.ABEiM0RVZneImaq7zN3u_wEjRWeJq83v_ty6mHZUMhA"
#define IV    "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf"
#define BOM   "\xef\xbb\xbf"

static int decode(const char *text)
{
    uint8_t key[GT_KEY_SIZE];
    bool is_passphrase = false;
    const char *passphrase = NULL;

    return gt_keytext_decode(text, key, &is_passphrase, &passphrase);
}

static void test_damaged_keys_are_rejected(void **state)
{
    static const struct {
        const char *text;
        int r;
    } cases[] = {
        {"\"" HEX "\"", GT_KEY_E_QUOTES},
        {"'" HEX "'", GT_KEY_E_QUOTES},
        {"`" HEX "`", GT_KEY_E_QUOTES},
        {"\"" HEX, GT_KEY_E_QUOTES},
        {HEX "'", GT_KEY_E_QUOTES},
        {"\"" BASE "\"", GT_KEY_E_QUOTES},
        {"\"" GK1 "\"", GT_KEY_E_QUOTES},
        {"\"a passphrase of some words\"", GT_KEY_E_QUOTES},
        {"\xe2\x80\x9c" HEX "\xe2\x80\x9d", GT_KEY_E_TYPOGRAPHIC},
        {HEX " ", GT_KEY_E_BLANKS},
        {" " HEX, GT_KEY_E_BLANKS},
        {BASE " ", GT_KEY_E_BLANKS},
        {" " GK1, GT_KEY_E_BLANKS},
        {"correct horse battery staple ", GT_KEY_E_BLANKS},
        {BOM HEX, GT_KEY_E_INVISIBLE},
        {HEX "\xe2\x80\x8b", GT_KEY_E_INVISIBLE},
        {HEX "\xc2\xa0", GT_KEY_E_INVISIBLE},
        {"0011\xc2\xad" HEX, GT_KEY_E_INVISIBLE},
        {BOM GK1, GT_KEY_E_INVISIBLE},
        {BOM "correct horse battery staple", GT_KEY_E_INVISIBLE},
        {"export GOTTHARD_CRYPT_KEY=" HEX, GT_KEY_E_VARIABLE},
        {"GOTTHARD_CRYPT_KEY=" HEX, GT_KEY_E_VARIABLE},
        {"GOTTHARD_CRYPT_KEY = " HEX, GT_KEY_E_VARIABLE},
        {"CRYPT_KEY=" HEX, GT_KEY_E_VARIABLE},
        {"CRYPT_KEY: a passphrase of some words", GT_KEY_E_VARIABLE},
        {HEX " # of 2027", GT_KEY_E_COMMENT},
        {"# the key of the fleet in Bern", GT_KEY_E_COMMENT},
        {HEX63, GT_KEY_E_HEX},
        {HEX "0", GT_KEY_E_HEX},
        {HEX HEX, GT_KEY_E_HEX},
        {IV, GT_KEY_E_HEX},
        {"0x" HEX, GT_KEY_E_HEX},
        {"00112233 44556677 8899aabb ccddeeff 01234567 89abcdef fedcba98 76543210", GT_KEY_E_HEX},
        {"00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:01:23:45:67:89:AB", GT_KEY_E_HEX},
        {"0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa", GT_KEY_E_HEX},
        {"550e8400-e29b-41d4-a716-446655440000", GT_KEY_E_HEX},
        {"<" HEX ">", GT_KEY_E_HEX},
        {HEX "%", GT_KEY_E_HEX},
        {HEX ";", GT_KEY_E_HEX},
        {HEX63 "\xd0\xb0", GT_KEY_E_HEX}, /* a Cyrillic a */
        {HEX63 "O", GT_KEY_E_BASE64},     /* a letter in place of 0 */
        {"hex:" HEX, GT_KEY_E_BASE64},
        {BASE1, GT_KEY_E_BASE64},
        {BASE "=", GT_KEY_E_BASE64},
        {BASE1 "B", GT_KEY_E_BASE64},                                     /* unused bits */
        {"ABEiM0RVZneImaq7zN3u_wEjRWeJq83v/ty6mHZUMhA", GT_KEY_E_BASE64}, /* both alphabets */
        {"base64:" BASE, GT_KEY_E_BASE64},
        {"ABEiM0RV ZneImaq7 zN3u/wEj RWeJq83v /ty6mHZU MhA=", GT_KEY_E_BASE64},
        {"QUJDREVGR0hJSktMTU5PUA==", GT_KEY_E_BASE64}, /* 16 bytes */
        {"GK1r.ABEiM0RVZneImaq7zN3u_wEjRWeJq83v_ty6mHZUMhA", GT_KEY_E_DERIVED},
        {"key " GK1, GT_KEY_E_DERIVED},
        {"GK1o.alice.ABEiM0RVZneImaq7zN3u_wEjRWeJq83v_ty6mHZUMhA", GT_KEY_E_DERIVED},
        {"key gk1o.alice.ABEiM0RVZneImaq7zN3u_wEjRWeJq83v_ty6mHZUMhA", GT_KEY_E_DERIVED},
        {"l\xe2\x80\x99"
         "eau de la fontaine claire",
         GT_KEY_E_TYPOGRAPHIC},
        {"/run/secrets/gotthard-key", GT_KEY_E_REFERENCE},
        {"~/secrets of the fleet/key", GT_KEY_E_REFERENCE},
        {"@/etc/gotthard/fleet.key", GT_KEY_E_REFERENCE},
        {"file:///etc/gotthard/fleet.key", GT_KEY_E_REFERENCE},
        {"-----BEGIN PRIVATE KEY-----", GT_KEY_E_REFERENCE},
        {"<!DOCTYPE html><html><head>", GT_KEY_E_REFERENCE},
        {"<your 64 hex digits here>", GT_KEY_E_REFERENCE},
        {"$(cat /run/secrets/gotthard)", GT_KEY_E_REFERENCE},
        {"${gotthard.key:-}, of the vault", GT_KEY_E_REFERENCE},
        {"{{ vault.gotthard.key }}", GT_KEY_E_REFERENCE},
        {"passphrase:correct\xc2\xa0horse battery staple", GT_KEY_E_INVISIBLE},
        {"passphrase: correct horse battery staple", GT_KEY_E_BLANKS},
        {"passphrase:too short", GT_KEY_E_SYNTAX},
        {"passphrase:", GT_KEY_E_SYNTAX},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        int r = decode(cases[i].text);

        if (r != cases[i].r)
            fail_msg("%s: %d, not %d", cases[i].text, r, cases[i].r);
    }
}

static void test_passphrases_are_accepted(void **state)
{
    static const char *const texts[] = {
        "correct horse battery staple",
        "correct-horse-battery-staple",
        "Correct-Horse-Battery-Staple-9",
        "correct_horse_battery_staple",
        "correcthorsebatterystaple",
        "CorrectHorseBatteryStaple7",
        "CORRECT HORSE BATTERY STAPLE",
        "my 2nd best Pa55word is here",
        "kX9#mP2$vL8@nQ5!wR7^zT4&",
        "it's a \"long\" way, 40 km: see!",
        "der Gotthard f\xc3\xbchrt \xc3\xbc"
        "ber 2106 Meter",
        "\xd0\xbf\xd0\xb5\xd1\x80\xd0\xb5\xd0\xb2\xd0\xb0\xd0\xbb "
        "\xd0\xb2\xd1\x8b\xd1\x81\xd0\xbe\xd0\xba\xd0\xbe \xd0\xb2 \xd0\xb3\xd0\xbe\xd1\x80\xd0\xb0"
        "\xd1\x85",
        "passphrase:" HEX63,
        "Passphrase:aGVsbG8gd29ybGQgaGVsbG8",
        "https://example.org/ is a page",
        "1 < 2 and 3 > 2, always, on Mondays too",
        "passphrase:l\xe2\x80\x99"
        "eau de la fontaine claire",
        "passphrase:/a/path/that/is/meant",
        "passphrase:number #1 fan of everything",
        "passphrase:\"in quotes, as it is meant\"",
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(texts); i++) {
        uint8_t key[GT_KEY_SIZE];
        bool is_passphrase = false;
        const char *passphrase = NULL;

        int r = gt_keytext_decode(texts[i], key, &is_passphrase, &passphrase);
        if (r)
            fail_msg("%s: %d", texts[i], r);
        assert_true(is_passphrase);
        assert_null(strstr(passphrase, "assphrase:"));
    }
}

static void test_damaged_ivs_are_rejected(void **state)
{
    static const char *const damaged[] = {
        "\"" IV "\"",
        IV " ",
        BOM IV,
        "export GOTTHARD_CRYPT_IV=" IV,
        "GOTTHARD_CRYPT_IV=" IV,
        "a0a1a2a3a4a5a6a7a8a9aaabacadaea",
        IV "0",
        "0x" IV,
        "a0:a1:a2:a3:a4:a5:a6:a7:a8:a9:aa:ab:ac:ad:ae:af",
        "a0a1a2a3 a4a5a6a7 a8a9aaab acadaeaf",
        "oKGio6SlpqeoqaqrrK2urw=",
        "oKGio6SlpqeoqaqrrK2ur",
        "/run/secrets/gotthard-iv",
        "$(cat /run/secrets/iv)",
        IV " # salt",
        IV "\xe2\x80\x8b",
        HEX,
    };
    static const char *const literal[] = {"12345678",   "1234567890123456",
                                          "another iv", "fleet-of-bern-2027",
                                          IV,           "oKGio6SlpqeoqaqrrK2urw"};
    uint8_t iv[GT_KEYTEXT_IV_MAX];
    size_t n;

    for (size_t i = 0; i < GT_ARRAY_SIZE(damaged); i++) {
        int r = gt_keytext_decode_iv(damaged[i], iv, &n);

        if (r <= 0 || !gt_key_is_of_iv(r))
            fail_msg("%s: %d", damaged[i], r);
        assert_string_not_equal(gt_key_strerror(r), "unknown error");
        assert_null(strstr(gt_key_strerror(r), "passphrase"));
    }
    for (size_t i = 0; i < GT_ARRAY_SIZE(literal); i++)
        assert_int_equal(gt_keytext_decode_iv(literal[i], iv, &n), 0);
}

/* The same passphrase, declared or not, is the same key. */
static void test_prefix_is_no_part_of_the_passphrase(void **state)
{
    struct gt_key plain, declared;

    assert_int_equal(gt_key_parse("correct horse battery staple", IV, &plain), 0);
    assert_int_equal(gt_key_parse("passphrase:correct horse battery staple", IV, &declared), 0);
    assert_memory_equal(plain.master, declared.master, GT_KEY_SIZE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_damaged_keys_are_rejected),
        cmocka_unit_test(test_passphrases_are_accepted),
        cmocka_unit_test(test_damaged_ivs_are_rejected),
        cmocka_unit_test(test_prefix_is_no_part_of_the_passphrase),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
