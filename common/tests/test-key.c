/* SPDX-License-Identifier: ISC */
/*
 * key.c against the known answers of docs/protocol.md, section 6, and with all valid and invalid
 * forms of GOTTHARD_CRYPT_KEY and GOTTHARD_CRYPT_IV.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gotthard/crypto/key.h"
#include "vectors.h"

#define KEY_HEX "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define IV_HEX  "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf"

static void assert_hex(const uint8_t *got, const char *want)
{
    char text[2 * GT_KEYIV + 1];

    gt_text_hex(got, strlen(want) / 2, text);
    assert_string_equal(text, want);
}

static struct gt_key parse(const char *text, const char *iv)
{
    struct gt_key key;

    assert_int_equal(gt_key_parse(text, iv, &key), 0);
    return key;
}

static void test_derivations_match_known_answers(void **state)
{
    struct gt_key key = parse(KEY_HEX, IV_HEX);
    uint8_t device[32], client[32], id[GT_KEY_ID_SIZE];
    struct gt_message_keys messages;

    assert_hex(key.master, "98141fbe2f22dd1172b69b54d2b750c9feec61e4adcbc7da784b55e0096a06f9");
    assert_hex(key.relay, "0580b76a5553feb1b03167035fc3314d9673bd93e951a36cf22f264d8a4665bc");
    assert_hex(key.devices, "f33aa1c95e2d801a80730597b0e2ea038146fab6bb8c37c6197b0deff035da00");
    assert_int_equal(gt_key_device(&key, "GatewayOli", device), 0);
    assert_hex(device, "1aff7256a80cabf5934aaa9e1db39c9f30d85664884d48d32f2ccae6d8872896");
    assert_int_equal(gt_key_device_id(device, id), 0);
    assert_hex(id, "c788ad100841125ef79827de1094f326");
    assert_int_equal(gt_key_device_id_of_0_2(&key, "GatewayOli", id), 0);
    assert_hex(id, "0313b63da66409a1f22c0aed1c4ba8f2"); /* the known answer of 0.2 */
    assert_int_equal(gt_key_fleet_id(&key, id), 0);
    assert_hex(id, "e32ebf55011dad17e9a22ca07aafb0ba");
    assert_int_equal(gt_key_client(&key, GT_ROLE_OPERATOR, "alice", client), 0);
    assert_hex(client, "7c25502b8d3dabc8d2d972ee69707dd8636fd51bdffb7df4f56bc38df7b4caa5");
    assert_int_equal(gt_key_client(&key, GT_ROLE_DEVICE, "GatewayOli", client), 0);
    assert_hex(client, "e0faf111578d5609441878ac6b0a896ded88e682f8f5cb5f14caffd6d322e120");
    assert_int_equal(gt_key_messages(device, &messages), 0);
    assert_hex(messages.req, "47835d58b4a5a46033c97bbe1dd75fe1212726f767756f609be58ed77d82d399");
    assert_hex(messages.mix, "14f2749b027634ffb5633a808392e54b9465723faadf8d72422d2957de5b7eb1");
    assert_hex(messages.presence,
               "968764836a1becaa8d7666ec7abbe02c14eddf7e5d23af5af38dfbeb235fb757");
}

static void test_session_keys_match_known_answers(void **state)
{
    uint8_t prk[32], th1[32], th2[32], gy[32], keyiv[GT_KEYIV];
    struct gt_session_keys session;
    struct gt_stream_psk stream;

    unhex("26a7a3940709e800645c9f04a4f410c45fa950348bf03d818b4c3ce322c145dd", prk);
    unhex("b06604532192a8d44074ac7e939ced8a38ebd5c87ad105a2c2f015ee931146fd", th1);
    unhex("727d66085b97e021c46101fa19288bc04dbedbccbe9953a395ffcefce73a716a", gy);
    unhex("db7fbb068013fcb840ff0ebfba73745932348a76cdbf803f1cd18d893a7ea181", th2);
    assert_int_equal(gt_key_ack(prk, th1, gy, keyiv), 0);
    assert_hex(keyiv, "7e2670c65f79948609b30cbd92f1662630b460f0558d954b35218c3b69bde1ad"
                      "34286995fa4cbc9d228c48e4");
    assert_int_equal(gt_key_session(prk, th2, &session), 0);
    assert_hex(session.session, "7e41bf4aa6e422673bcfdd37e8f9538aed259516ff1ff73adb30af485d38633f");
    assert_hex(session.rid, "1f31db2e01ee78d24ce9c30811f2309f");
    assert_hex(session.report, "f69c25ce5af722199e68e9b9f34ee7df5384cdb07666ef444e70cb37d214c610");
    assert_int_equal(gt_key_stream(session.session, 1, 1, &stream), 0);
    assert_hex(stream.psk, "811e5d7024c218ca96afaf69f1927d5853dd91b171dee286ef49bd350da0cc31");
    assert_hex(stream.id, "759469f46068e52edfb2ea94e80b2ba9");
    assert_int_equal(gt_key_stream(session.session, 0, 1, &stream), 0); /* the shared connection */
    assert_hex(stream.psk, "3e8dbd854caa8d0824f5274b18b99f5ca18f45aa2b05554a5516879be57643dc");
    assert_hex(stream.id, "0df49d06d934dc86e52265f5a962f8de");
}

/* Each of these is the key 00..1f. */
static void test_key_accepts_each_form(void **state)
{
    static const char *forms[] = {
        KEY_HEX,
        "000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F",
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
    };
    struct gt_key want = parse(KEY_HEX, IV_HEX);

    for (size_t i = 0; i < GT_ARRAY_SIZE(forms); i++) {
        struct gt_key key = parse(forms[i], IV_HEX);

        assert_int_equal(key.kind, GT_KEY_MASTER);
        assert_false(key.is_passphrase);
        assert_memory_equal(key.master, want.master, 32);
    }
    /* ff..ff uses the characters in which the two base64 alphabets differ */
    want = parse("ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff", IV_HEX);
    struct gt_key plain = parse("//////////////////////////////////////////8=", IV_HEX);
    struct gt_key url = parse("__________________________________________8", IV_HEX);
    assert_memory_equal(plain.master, want.master, 32);
    assert_memory_equal(url.master, want.master, 32);
}

/* Each of these is the IV a0..af. */
static void test_iv_accepts_each_form(void **state)
{
    static const char *forms[] = {IV_HEX, "A0A1A2A3A4A5A6A7A8A9AAABACADAEAF",
                                  "oKGio6SlpqeoqaqrrK2urw==", "oKGio6SlpqeoqaqrrK2urw"};
    struct gt_key want = parse(KEY_HEX, IV_HEX), other = parse(KEY_HEX, "12345678");

    for (size_t i = 0; i < GT_ARRAY_SIZE(forms); i++) {
        struct gt_key key = parse(KEY_HEX, forms[i]);

        assert_memory_equal(key.master, want.master, 32);
    }
    assert_memory_not_equal(other.master, want.master, 32);
}

static void test_passphrase_is_derived_by_scrypt(void **state)
{
    /* python3: hashlib.scrypt(text, salt=SHA256(b"gotthard/1 salt" + iv), n=16384, r=8, p=1) */
    struct gt_key key = parse("correct horse battery staple", IV_HEX);

    assert_int_equal(key.kind, GT_KEY_MASTER);
    assert_true(key.is_passphrase);
    assert_hex(key.master, "c2af5743d2c4a6e8ac0c25281830d086bce7cb5b556b36da06edd35803a8404b");
    struct gt_key other = parse("correct horse battery staple", "another iv");
    assert_memory_not_equal(other.master, key.master, 32);
}

/* Lengths around those of the exact forms. Hex digits in another number are a damaged key. */
static void test_key_lengths_select_the_form(void **state)
{
    static const struct {
        size_t n;
        int r;
    } cases[] = {
        {0, GT_KEY_E_SYNTAX},
        {1, GT_KEY_E_SYNTAX},
        {16, GT_KEY_E_SYNTAX},
        {19, GT_KEY_E_HEX},
        {20, GT_KEY_E_HEX},
        {24, GT_KEY_E_HEX},
        {31, GT_KEY_E_HEX},
        {32, GT_KEY_E_HEX},
        {33, GT_KEY_E_HEX},
        {42, GT_KEY_E_HEX},
        {43, 0},
        {44, GT_KEY_E_HEX},
        {63, GT_KEY_E_HEX},
        {64, 0},
        {65, GT_KEY_E_HEX},
        {511, GT_KEY_E_HEX},
        {512, GT_KEY_E_SYNTAX},
    };
    char text[513];

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        struct gt_key key = {0};

        for (size_t j = 0; j < cases[i].n; j++)
            text[j] = "0123456789abcdef"[(j + 2) % 16];
        text[cases[i].n] = 0;
        assert_int_equal(gt_key_parse(text, IV_HEX, &key), cases[i].r);
        assert_false(key.is_passphrase);
    }
}

static void test_invalid_keys_are_rejected(void **state)
{
#define ZEROS16  "0000000000000000"
#define ZERO_KEY "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
#define K32      "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
#define K32_THEN "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8" /* its last bits continue */
#define K64_CUT  K32 "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh"
    static const struct {
        const char *key, *iv;
        int r;
    } cases[] = {
        {ZEROS16 ZEROS16 ZEROS16 ZEROS16, IV_HEX, GT_KEY_E_ZERO},
        {"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", IV_HEX, GT_KEY_E_ZERO},
        {ZEROS16 "000000", IV_HEX, GT_KEY_E_ZERO},
        {KEY_HEX, KEY_HEX, GT_KEY_E_SAME},
        {"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", KEY_HEX, GT_KEY_E_SAME},
        {KEY_HEX, "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8", GT_KEY_E_SAME},
        {"a passphrase of more than 20", "a passphrase of more than 20", GT_KEY_E_SAME},
        {IV_HEX, IV_HEX, GT_KEY_E_SAME},
        {KEY_HEX, NULL, GT_KEY_E_IV},
        {KEY_HEX, "", GT_KEY_E_IV},
        {KEY_HEX, "1234567", GT_KEY_E_IV},
        {KEY_HEX, KEY_HEX "a", GT_KEY_E_IV},
        {KEY_HEX, IV_HEX "\n", GT_KEY_E_IV},
        {KEY_HEX "\n", IV_HEX, GT_KEY_E_SYNTAX},
        {"a passphrase\twith a tab in it", IV_HEX, GT_KEY_E_SYNTAX},
        {"\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4", IV_HEX,
         GT_KEY_E_SYNTAX}, /* ten characters, twenty bytes */
        {"gk1", IV_HEX, GT_KEY_E_SYNTAX},
        {"gk1x.AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8", IV_HEX, GT_KEY_E_SYNTAX},
        {"gk1r.", IV_HEX, GT_KEY_E_SYNTAX},
        {"gk1r.AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh", IV_HEX, GT_KEY_E_SYNTAX},
        {"gk1r.AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8AA", IV_HEX, GT_KEY_E_SYNTAX},
        {"gk1r." ZERO_KEY, IV_HEX, GT_KEY_E_ZERO},
        {"gk1d.", NULL, GT_KEY_E_SYNTAX},
        {"gk1d.name", NULL, GT_KEY_E_SYNTAX},
        {"gk1d.name.AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8", NULL, GT_KEY_E_SYNTAX},
        {"gk1d.na/me." ZERO_KEY ZERO_KEY, NULL, GT_KEY_E_SYNTAX},
        {"gk1d.name." ZERO_KEY ZERO_KEY, NULL, GT_KEY_E_ZERO},
        {"gk1o.", NULL, GT_KEY_E_SYNTAX},
        {"gk1o.name", NULL, GT_KEY_E_SYNTAX},
        {"gk1o.name.", NULL, GT_KEY_E_SYNTAX},
        {"gk1o.name.A", NULL, GT_KEY_E_SYNTAX},
        {"gk1o.." K32, NULL, GT_KEY_E_SYNTAX},
        {"gk1o." K32, NULL, GT_KEY_E_SYNTAX},
        {"gk1o.na/me." K32, NULL, GT_KEY_E_SYNTAX},
        {"gk1o.name " K32, NULL, GT_KEY_E_SYNTAX},
        {"gk1o.name." K32 "A", NULL, GT_KEY_E_SYNTAX},      /* 33 bytes */
        {"gk1o.name." K64_CUT, NULL, GT_KEY_E_SYNTAX},      /* 63 bytes */
        {"gk1o.name." K64_CUT "8A", NULL, GT_KEY_E_SYNTAX}, /* 65 bytes */
        {"gk1o.name." K64_CUT "8\n", NULL, GT_KEY_E_SYNTAX},
        {"gk1o.name." ZERO_KEY, NULL, GT_KEY_E_ZERO},
        {"gk1o.name." ZERO_KEY ZERO_KEY, NULL, GT_KEY_E_ZERO},
        {"gk1o.name." ZERO_KEY "BJVArjT2ryNLZcu5pcH3YY2_VG9_7ffT1a8ON97TKpQ", NULL, GT_KEY_E_ZERO},
        {"gk1o.name." K32_THEN ZERO_KEY, NULL, GT_KEY_E_ZERO},
        {"gk1O.name." K32, IV_HEX, GT_KEY_E_SYNTAX},
        {"GK1o.name." K32, IV_HEX, GT_KEY_E_DERIVED},
    };
    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        struct gt_key key, before;

        memset(&key, 0x5a, sizeof(key));
        memcpy(&before, &key, sizeof(key));
        int r = gt_key_parse(cases[i].key, cases[i].iv, &key);
        if (r != cases[i].r)
            fail_msg("case %zu: %d, not %d", i, r, cases[i].r);
        assert_memory_equal(&key, &before, sizeof(key));
        assert_non_null(gt_key_strerror(r));
    }
}

static void test_relay_key_text_derives_client_keys(void **state)
{
    struct gt_key master = parse(KEY_HEX, IV_HEX);
    char text[GT_KEY_TEXT_MAX];
    uint8_t want[32], got[32];

    assert_int_equal(gt_key_format_relay(&master, text), 0);
    assert_string_equal(text, "gk1r.BYC3alVT_rGwMWcDX8MxTZZzvZPpUaNs8i8mTYpGZbw");
    struct gt_key relay = parse(text, NULL);
    assert_int_equal(relay.kind, GT_KEY_RELAY);
    assert_int_equal(gt_key_client(&master, GT_ROLE_OPERATOR, "alice", want), 0);
    assert_int_equal(gt_key_client(&relay, GT_ROLE_OPERATOR, "alice", got), 0);
    assert_memory_equal(got, want, 32);
    assert_int_equal(gt_key_relay_id(&master, want), 0);
    assert_int_equal(gt_key_relay_id(&relay, got), 0);
    assert_memory_equal(got, want, GT_KEY_ID_SIZE);
    assert_int_equal(gt_key_device(&relay, "GatewayOli", got), GT_KEY_E_NOT_HELD);
    assert_int_equal(gt_key_format_relay(&relay, text), GT_KEY_E_NOT_HELD);
    assert_int_equal(gt_key_format_device(&relay, "GatewayOli", text), GT_KEY_E_NOT_HELD);
}

static void test_device_key_text_derives_its_own_keys_only(void **state)
{
    static const char *names[] = {
        "GatewayOli", "a", "dots.in.it", "x@y:z_-.",
        ("l2345678901234567890123456789012345678901234567890123456789012345"
         "67890123456789012345678901234567890123456789012345678901234567")};
    struct gt_key master = parse(KEY_HEX, IV_HEX);

    for (size_t i = 0; i < GT_ARRAY_SIZE(names); i++) {
        char text[GT_KEY_TEXT_MAX];
        uint8_t want[32], got[32];

        assert_int_equal(gt_key_format_device(&master, names[i], text), 0);
        struct gt_key device = parse(text, "");
        assert_int_equal(device.kind, GT_KEY_DEVICE);
        assert_string_equal(device.name, names[i]);
        assert_int_equal(gt_key_device(&master, names[i], want), 0);
        assert_int_equal(gt_key_device(&device, names[i], got), 0);
        assert_memory_equal(got, want, 32);
        assert_int_equal(gt_key_client(&master, GT_ROLE_DEVICE, names[i], want), 0);
        assert_int_equal(gt_key_client(&device, GT_ROLE_DEVICE, names[i], got), 0);
        assert_memory_equal(got, want, 32);
        /* no key of another device or of the relay */
        assert_int_equal(gt_key_device(&device, "other", got), GT_KEY_E_NOT_HELD);
        assert_int_equal(gt_key_client(&device, GT_ROLE_DEVICE, "other", got), GT_KEY_E_NOT_HELD);
        assert_int_equal(gt_key_relay_id(&device, got), GT_KEY_E_NOT_HELD);
        assert_int_equal(gt_key_fleet_id(&device, got), GT_KEY_E_NOT_HELD);
        assert_int_equal(gt_key_device_id_of_0_2(&device, names[i], got), GT_KEY_E_NOT_HELD);
        assert_int_equal(gt_key_client(&device, GT_ROLE_OPERATOR, names[i], got),
                         GT_KEY_E_NOT_HELD);
        assert_int_equal(gt_key_format_device(&device, names[i], text), GT_KEY_E_NOT_HELD);
    }
}

static void assert_holds_no_more_than_its_own(const struct gt_key *key, const char *name)
{
    char text[GT_KEY_TEXT_MAX];
    uint8_t out[32];

    assert_int_equal(gt_key_client(key, GT_ROLE_OPERATOR, "other", out), GT_KEY_E_NOT_HELD);
    assert_int_equal(gt_key_client(key, GT_ROLE_DEVICE, name, out), GT_KEY_E_NOT_HELD);
    assert_int_equal(gt_key_client(key, GT_ROLE_DEVICE, "GatewayOli", out), GT_KEY_E_NOT_HELD);
    assert_int_equal(gt_key_relay_id(key, out), GT_KEY_E_NOT_HELD);
    assert_int_equal(gt_key_device_id_of_0_2(key, "GatewayOli", out), GT_KEY_E_NOT_HELD);
    assert_int_equal(gt_key_format_relay(key, text), GT_KEY_E_NOT_HELD);
    assert_int_equal(gt_key_format_device(key, "GatewayOli", text), GT_KEY_E_NOT_HELD);
    assert_int_equal(gt_key_format_operator(key, name, true, text), GT_KEY_E_NOT_HELD);
    assert_int_equal(gt_key_format_operator(key, name, false, text), GT_KEY_E_NOT_HELD);
}

static void test_operator_key_text_derives_its_own_keys_only(void **state)
{
    static const char *names[] = {
        "alice", "a", "dots.in.it", "x@y:z_-.",
        ("l2345678901234567890123456789012345678901234567890123456789012345"
         "67890123456789012345678901234567890123456789012345678901234567")};
    struct gt_key master = parse(KEY_HEX, IV_HEX);

    for (size_t i = 0; i < 2 * GT_ARRAY_SIZE(names); i++) {
        const char *name = names[i / 2];
        bool is_of_every_device = i % 2;
        char text[GT_KEY_TEXT_MAX];
        uint8_t want[32], got[32];

        assert_int_equal(gt_key_format_operator(&master, name, is_of_every_device, text), 0);
        struct gt_key key = parse(text, i % 4 ? "" : NULL);
        assert_int_equal(key.kind, GT_KEY_OPERATOR);
        assert_string_equal(key.name, name);
        assert_int_equal(key.has_devices, is_of_every_device);
        assert_int_equal(gt_key_client(&master, GT_ROLE_OPERATOR, name, want), 0);
        assert_int_equal(gt_key_client(&key, GT_ROLE_OPERATOR, name, got), 0);
        assert_memory_equal(got, want, 32);
        assert_int_equal(gt_key_device(&master, "GatewayOli", want), 0);
        assert_int_equal(gt_key_device(&key, "GatewayOli", got),
                         is_of_every_device ? 0 : GT_KEY_E_NOT_HELD);
        if (is_of_every_device)
            assert_memory_equal(got, want, 32);
        assert_holds_no_more_than_its_own(&key, name);
    }
}

static void test_operator_key_text_matches_known_answers(void **state)
{
    struct gt_key master = parse(KEY_HEX, IV_HEX);
    char text[GT_KEY_TEXT_MAX];
    uint8_t id[GT_KEY_ID_SIZE];

    assert_int_equal(gt_key_format_operator(&master, "alice", true, text), 0);
    assert_string_equal(text,
                        "gk1o.alice.8zqhyV4tgBqAcwWXsOLqA4FG-ra7jDfGGXsN7_A12gB8JVArjT2ryNLZcu5p"
                        "cH3YY2_VG9_7ffT1a8ON97TKpQ");
    struct gt_key every = parse(text, NULL);
    assert_int_equal(gt_key_format_operator(&master, "alice", false, text), 0);
    assert_string_equal(text, "gk1o.alice.fCVQK409q8jS2XLuaXB92GNv1Rvf-3309WvDjfe0yqU");
    struct gt_key some = parse(text, NULL);
    assert_int_equal(gt_key_fleet_id(&every, id), 0);
    assert_hex(id, "ccb348e7b4f8a120f50cec0c95e8172e");
    assert_int_equal(gt_key_fleet_id(&some, id), 0);
    assert_hex(id, "ccb348e7b4f8a120f50cec0c95e8172e");
}

/* A text that is cut anywhere is rejected. At 43 characters after the name the rest of its last
 * character must not be lost bits of a longer text, which K_devs would then be taken for K_rc. */
static void test_cut_operator_key_text_is_rejected(void **state)
{
    struct gt_key master = parse(KEY_HEX, IV_HEX), key;
    char text[GT_KEY_TEXT_MAX];

    assert_int_equal(gt_key_format_operator(&master, "alice", true, text), 0);
    for (size_t n = strlen(text); n-- > 0;) {
        text[n] = 0;
        if (gt_key_parse(text, IV_HEX, &key) == 0)
            fail_msg("%zu characters are accepted", n);
    }
}

static void test_derivation_rejects_invalid_names(void **state)
{
    static const char *names[] = {"", "a/b", "+", "#", "-x", "a b", "a\n", "\xc3\xa4"};
    struct gt_key master = parse(KEY_HEX, IV_HEX);
    char text[GT_KEY_TEXT_MAX];
    uint8_t out[32];

    for (size_t i = 0; i < GT_ARRAY_SIZE(names); i++) {
        assert_int_equal(gt_key_device(&master, names[i], out), GT_KEY_E_SYNTAX);
        assert_int_equal(gt_key_client(&master, GT_ROLE_DEVICE, names[i], out), GT_KEY_E_SYNTAX);
        assert_int_equal(gt_key_format_device(&master, names[i], text), GT_KEY_E_SYNTAX);
        assert_int_equal(gt_key_format_operator(&master, names[i], true, text), GT_KEY_E_SYNTAX);
        assert_int_equal(gt_key_format_operator(&master, names[i], false, text), GT_KEY_E_SYNTAX);
    }
}

static void test_identity_parses_its_own_format(void **state)
{
    static const char *bad[] = {"",        "g1:",     "g1:o:",       "g1:x:alice", "g1:o:a/b",
                                "g2:o:al", "g1:O:al", "g1:o:alice ", "g1:o:-a",    " g1:o:alice"};
    char text[GT_IDENTITY_MAX + 1], name[GT_NAME_MAX + 1];
    enum gt_role role;

    gt_key_identity(GT_ROLE_OPERATOR, "alice", text);
    assert_string_equal(text, "g1:o:alice");
    assert_true(gt_key_parse_identity(gt_span_text(text), &role, name));
    assert_int_equal(role, GT_ROLE_OPERATOR);
    assert_string_equal(name, "alice");
    gt_key_identity(GT_ROLE_DEVICE, "GatewayOli", text);
    assert_string_equal(text, "g1:d:GatewayOli");
    assert_true(gt_key_parse_identity(gt_span_text(text), &role, name));
    assert_int_equal(role, GT_ROLE_DEVICE);
    assert_string_equal(name, "GatewayOli");
    for (size_t i = 0; i < GT_ARRAY_SIZE(bad); i++)
        assert_false(gt_key_parse_identity(gt_span_text(bad[i]), &role, name));
    assert_false(gt_key_parse_identity(gt_span("g1:o:al\0ce", 10), &role, name));
    memset(text, 'a', sizeof(text));
    memcpy(text, "g1:o:", 5);
    assert_true(gt_key_parse_identity(gt_span(text, 5 + GT_NAME_MAX), &role, name));
    assert_int_equal(strlen(name), GT_NAME_MAX);
    assert_false(gt_key_parse_identity(gt_span(text, 5 + GT_NAME_MAX + 1), &role, name));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_derivations_match_known_answers),
        cmocka_unit_test(test_session_keys_match_known_answers),
        cmocka_unit_test(test_key_accepts_each_form),
        cmocka_unit_test(test_iv_accepts_each_form),
        cmocka_unit_test(test_passphrase_is_derived_by_scrypt),
        cmocka_unit_test(test_key_lengths_select_the_form),
        cmocka_unit_test(test_invalid_keys_are_rejected),
        cmocka_unit_test(test_relay_key_text_derives_client_keys),
        cmocka_unit_test(test_device_key_text_derives_its_own_keys_only),
        cmocka_unit_test(test_operator_key_text_derives_its_own_keys_only),
        cmocka_unit_test(test_operator_key_text_matches_known_answers),
        cmocka_unit_test(test_cut_operator_key_text_is_rejected),
        cmocka_unit_test(test_derivation_rejects_invalid_names),
        cmocka_unit_test(test_identity_parses_its_own_format),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
