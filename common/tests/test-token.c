/* SPDX-License-Identifier: ISC */
/* Tokens of an enrolment: known answers, every text that is no token, and the expiry in a name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "gotthard/trust/token.h"
#include "vectors.h"

#define KEY_HEX "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define IV_HEX  "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf"
#define EXPIRY  1800000000u

static void assert_hex(const uint8_t *got, const char *want)
{
    char text[2 * GT_KEYIV + 1];

    gt_text_hex(got, strlen(want) / 2, text);
    assert_string_equal(text, want);
}

static struct gt_key fleet_key(void)
{
    struct gt_key key;

    assert_int_equal(gt_key_parse(KEY_HEX, IV_HEX, &key), 0);
    return key;
}

static struct gt_token new_token(const char *host, uint16_t port)
{
    struct gt_key key = fleet_key();
    uint8_t private_key[GT_KEY_SIZE];
    struct gt_token token;

    assert_int_equal(gt_token_new(&key, GT_TOKEN_DEVICE, host, port, EXPIRY, &token, private_key),
                     0);
    return token;
}

static void test_token_keys_match_known_answers(void **state)
{
    struct gt_token token = {.kind = GT_TOKEN_DEVICE, .expires_at = EXPIRY};
    struct gt_key key = fleet_key();
    struct gt_token_keys keys;
    uint8_t hash[GT_KEY_SIZE];

    hash_of("seed", hash);
    memcpy(token.seed, hash, sizeof(token.seed));
    assert_int_equal(gt_token_derive(&token, &keys), 0);
    assert_hex(keys.prk, "41942cda25c584d2ef782882abb866e0e38075ffad15e5af229a7c834410a67c");
    assert_hex(keys.session, "ee0cdc0fafe4cc65deeb09b6dd9a77b3d31aaee0ce86522db1ef6676930b267e");
    assert_hex(keys.rid, "8154baaa2c35ba6736520bee0014553c");
    assert_string_equal(keys.name, "enroll-6b49d200-627a14c6");
    assert_int_equal(gt_key_client(&key, GT_ROLE_DEVICE, keys.name, hash), 0);
    assert_hex(hash, "fc0e2692fbb2ef9a1f7f2f165561ddc52e23123f6078f39f9616ef58aeb2bf40");
}

static void test_token_text_returns_the_token(void **state)
{
    static const struct {
        const char *host;
        uint16_t port;
    } relays[] = {
        {"relay.example.org", 7000}, {"192.0.2.7", 443}, {"2001:db8::1", 65535}, {"r", 1}};
    char text[GT_TOKEN_TEXT_MAX], why[GT_TOKEN_WHY];
    struct gt_token parsed;

    for (size_t i = 0; i < GT_ARRAY_SIZE(relays); i++) {
        struct gt_token token = new_token(relays[i].host, relays[i].port);

        gt_token_format(&token, text);
        assert_int_equal(gt_token_parse(text, &parsed, why), 0);
        assert_int_equal(parsed.kind, GT_TOKEN_DEVICE);
        assert_int_equal(parsed.expires_at, EXPIRY);
        assert_string_equal(parsed.relay_host, relays[i].host);
        assert_int_equal(parsed.relay_port, relays[i].port);
        assert_memory_equal(parsed.seed, token.seed, sizeof(token.seed));
        assert_memory_equal(parsed.client, token.client, sizeof(token.client));
        assert_memory_equal(parsed.public_key, token.public_key, sizeof(token.public_key));
    }
}

static void test_token_of_the_longest_host_fits(void **state)
{
    char host[GT_HOST_MAX + 1], text[GT_TOKEN_TEXT_MAX], why[GT_TOKEN_WHY];
    struct gt_token parsed;

    memset(host, 'a', GT_HOST_MAX);
    for (size_t i = 60; i < GT_HOST_MAX; i += 60)
        host[i] = '.';
    host[GT_HOST_MAX] = 0;
    struct gt_token token = new_token(host, 65535);
    gt_token_format(&token, text);
    assert_int_equal(gt_token_parse(text, &parsed, why), 0);
    assert_string_equal(parsed.relay_host, host);
}

static void test_tokens_are_different(void **state)
{
    struct gt_token a = new_token("relay", 7000), b = new_token("relay", 7000);

    assert_memory_not_equal(a.seed, b.seed, sizeof(a.seed));
    assert_memory_not_equal(a.client, b.client, sizeof(a.client));
    assert_memory_not_equal(a.public_key, b.public_key, sizeof(a.public_key));
}

/* K_rc is of the relay's key, so only the fleet key can make one. */
static void test_token_needs_the_fleet_key(void **state)
{
    struct gt_key key = fleet_key(), other;
    char text[GT_KEY_TEXT_MAX];
    struct gt_token token;
    uint8_t private_key[GT_KEY_SIZE];

    assert_int_equal(gt_key_format_operator(&key, "alice", true, text), 0);
    assert_int_equal(gt_key_parse(text, NULL, &other), 0);
    assert_int_equal(
        gt_token_new(&other, GT_TOKEN_DEVICE, "relay", 7000, EXPIRY, &token, private_key),
        GT_TOKEN_E_NOT_HELD);
    assert_int_equal(
        gt_token_new(&key, GT_TOKEN_DEVICE, "re lay", 7000, EXPIRY, &token, private_key),
        GT_TOKEN_E_SYNTAX);
    assert_int_equal(gt_token_new(&key, GT_TOKEN_DEVICE, "relay", 0, EXPIRY, &token, private_key),
                     GT_TOKEN_E_SYNTAX);
}

static void test_token_refuses_damaged_texts(void **state)
{
    char text[GT_TOKEN_TEXT_MAX], damaged[GT_TOKEN_TEXT_MAX + 8], why[GT_TOKEN_WHY];
    struct gt_token token = new_token("relay", 7000), parsed;
    size_t n;

    gt_token_format(&token, text);
    n = strlen(text);
    for (size_t i = 0; i < n; i++) { /* cut off anywhere */
        snprintf(damaged, sizeof(damaged), "%.*s", (int)i, text);
        assert_int_equal(gt_token_parse(damaged, &parsed, why), GT_TOKEN_E_SYNTAX);
    }
    snprintf(damaged, sizeof(damaged), "%sA", text);
    assert_int_equal(gt_token_parse(damaged, &parsed, why), GT_TOKEN_E_SYNTAX);
    snprintf(damaged, sizeof(damaged), " %s", text);
    assert_int_equal(gt_token_parse(damaged, &parsed, why), GT_TOKEN_E_SYNTAX);
    assert_int_equal(gt_token_parse("gk1d.oli.AAAA", &parsed, why), GT_TOKEN_E_SYNTAX);
    assert_non_null(strstr(why, GT_TOKEN_PREFIX));
}

static void test_token_refuses_unknown_kinds(void **state)
{
    char text[GT_TOKEN_TEXT_MAX], why[GT_TOKEN_WHY];
    struct gt_token token = new_token("relay", 7000), parsed;

    for (unsigned kind = 0; kind < 6; kind++) {
        token.kind = (enum gt_token_kind)kind;
        gt_token_format(&token, text);
        assert_int_equal(gt_token_parse(text, &parsed, why),
                         kind >= 1 && kind <= 3 ? 0 : GT_TOKEN_E_SYNTAX);
    }
}

static void test_name_has_the_expiry(void **state)
{
    static const char *const bad[] = {
        "enroll-6b49d200-0123456",
        "enroll-6b49d200-012345678",
        "enroll-6B49D200-01234567",
        "enroll-6b49d200.01234567",
        "enroll-6b49d20g-01234567",
        "enroll-",
        "enroll",
        "oli",
        "Enroll-6b49d200-01234567",
    };
    uint32_t expires_at = 0;

    assert_int_equal(gt_token_parse_name("enroll-6b49d200-01234567", &expires_at), 0);
    assert_int_equal(expires_at, 0x6b49d200);
    assert_int_equal(gt_token_parse_name("enroll-ffffffff-01234567", &expires_at), 0);
    assert_int_equal(expires_at, UINT32_MAX);
    for (size_t i = 0; i < GT_ARRAY_SIZE(bad); i++)
        assert_int_equal(gt_token_parse_name(bad[i], &expires_at), GT_TOKEN_E_SYNTAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_token_keys_match_known_answers),
        cmocka_unit_test(test_token_text_returns_the_token),
        cmocka_unit_test(test_token_of_the_longest_host_fits),
        cmocka_unit_test(test_tokens_are_different),
        cmocka_unit_test(test_token_needs_the_fleet_key),
        cmocka_unit_test(test_token_refuses_damaged_texts),
        cmocka_unit_test(test_token_refuses_unknown_kinds),
        cmocka_unit_test(test_name_has_the_expiry),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
