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
    assert_int_equal(gt_key_device(&key, "GatewayOli", device), 0);
    assert_hex(device, "1819f074db08babc7934c7438b5a63b3860ccefcb9b5d04f63ae3d843b65cadf");
    assert_int_equal(gt_key_device_id(device, id), 0);
    assert_hex(id, "0313b63da66409a1f22c0aed1c4ba8f2");
    assert_int_equal(gt_key_client(&key, GT_ROLE_OPERATOR, "alice", client), 0);
    assert_hex(client, "7c25502b8d3dabc8d2d972ee69707dd8636fd51bdffb7df4f56bc38df7b4caa5");
    assert_int_equal(gt_key_client(&key, GT_ROLE_DEVICE, "GatewayOli", client), 0);
    assert_hex(client, "e0faf111578d5609441878ac6b0a896ded88e682f8f5cb5f14caffd6d322e120");
    assert_int_equal(gt_key_messages(device, &messages), 0);
    assert_hex(messages.req, "14af63dac112ab7479135ba6f6ee454291296ff80ac129661bee5252af9246aa");
    assert_hex(messages.mix, "fad9c94e7ea57e4387bb844c1281302b07ca236c839051c10d170a89907772c6");
    assert_hex(messages.presence,
               "481e2d82dec81a9a88f7a9eed3381e0f7d3037398b92ace6680684fb90c5a558");
}

static void test_session_keys_match_known_answers(void **state)
{
    uint8_t prk[32], th1[32], th2[32], gy[32], keyiv[GT_KEYIV];
    struct gt_session_keys session;
    struct gt_stream_psk stream;

    unhex("4ee79e72104b5849131b2cc0303ea4c16d2ca379969e3fb714b7dc51f0386457", prk);
    unhex("b06604532192a8d44074ac7e939ced8a38ebd5c87ad105a2c2f015ee931146fd", th1);
    unhex("727d66085b97e021c46101fa19288bc04dbedbccbe9953a395ffcefce73a716a", gy);
    unhex("db7fbb068013fcb840ff0ebfba73745932348a76cdbf803f1cd18d893a7ea181", th2);
    assert_int_equal(gt_key_ack(prk, th1, gy, keyiv), 0);
    assert_hex(keyiv, "06556d81a538ffa77df87137c9d692be7065bee2490d87180dacb77c459d48cf"
                      "4839be2da12eafc42e718ffc");
    assert_int_equal(gt_key_session(prk, th2, &session), 0);
    assert_hex(session.session, "46f1b6ec72bb9517abcec58aff275ec8c6c8ebe5d2ca45fa75099f0df87038d2");
    assert_hex(session.rid, "6f0e69551d4e1b715e93b0e5e0488606");
    assert_hex(session.report, "86be7fea91a484d0ab631f491cda19f292fc19ce4ee2c9c8b275bfe39eb5d5d5");
    assert_int_equal(gt_key_stream(session.session, 1, 1, &stream), 0);
    assert_hex(stream.psk, "7c57199de9bc7d18ec8d78ef81345438d5b5ac37c27d02034154b07965654f9a");
    assert_hex(stream.id, "08f3f83df0e2bb98ecf0444e01bf6f53");
    assert_int_equal(gt_key_stream(session.session, 0, 1, &stream), 0); /* the shared connection */
    assert_hex(stream.psk, "877f08b71a07cfa4e8b8ce58dc81831f2fa22f4845a05f7faf273c3f63634909");
    assert_hex(stream.id, "5e885bd2d2dcf2922fdd8db0cce322ea");
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
        assert_string_equal(device.device, names[i]);
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
        assert_int_equal(gt_key_client(&device, GT_ROLE_OPERATOR, names[i], got),
                         GT_KEY_E_NOT_HELD);
        assert_int_equal(gt_key_format_device(&device, names[i], text), GT_KEY_E_NOT_HELD);
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
        cmocka_unit_test(test_derivation_rejects_invalid_names),
        cmocka_unit_test(test_identity_parses_its_own_format),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
