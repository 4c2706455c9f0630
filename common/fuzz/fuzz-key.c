/* SPDX-License-Identifier: ISC */
/*
 * Arbitrary text as GOTTHARD_CRYPT_KEY, a NUL, and arbitrary text as GOTTHARD_CRYPT_IV, and the
 * whole input as an identity. The key texts that an accepted key formats must be accepted and
 * derive the same keys.
 */
#include "gotthard/crypto/key.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void must(bool is_so)
{
    if (!is_so)
        abort();
}

/* scrypt takes 50 ms: only test-key.c tests passphrases. */
static bool is_slow(const char *text)
{
    size_t n = strlen(text);

    return strncmp(text, "gk1", 3) != 0 && n >= 20 && n != 43 && n != 44 && n != 64;
}

static void check_operator_texts(const struct gt_key *master)
{
    struct gt_key every, some;
    char text[GT_KEY_TEXT_MAX];
    uint8_t want[GT_KEY_SIZE], got[GT_KEY_SIZE];

    must(gt_key_format_operator(master, "a.b", true, text) == 0 &&
         gt_key_parse(text, NULL, &every) == 0);
    must(gt_key_format_operator(master, "a.b", false, text) == 0 &&
         gt_key_parse(text, NULL, &some) == 0);
    must(gt_key_device(master, "d", want) == 0 && gt_key_device(&every, "d", got) == 0);
    must(memcmp(want, got, sizeof(got)) == 0);
    must(gt_key_client(&every, GT_ROLE_OPERATOR, "a.b", want) == 0 &&
         gt_key_client(&some, GT_ROLE_OPERATOR, "a.b", got) == 0);
    must(memcmp(want, got, sizeof(got)) == 0);
}

static void check_operator(const struct gt_key *key)
{
    uint8_t out[GT_KEY_SIZE];
    char text[GT_KEY_TEXT_MAX];

    must(gt_text_is_name(gt_span_text(key->name)));
    must(gt_key_client(key, GT_ROLE_OPERATOR, key->name, out) == 0);
    must(gt_key_client(key, GT_ROLE_DEVICE, key->name, out) == GT_KEY_E_NOT_HELD);
    must(gt_key_device(key, "d", out) == (key->has_devices ? 0 : GT_KEY_E_NOT_HELD));
    must(gt_key_relay_id(key, out) == GT_KEY_E_NOT_HELD);
    must(gt_key_format_operator(key, key->name, false, text) == GT_KEY_E_NOT_HELD);
}

static void check_master(const struct gt_key *key)
{
    struct gt_key relay, device;
    char text[GT_KEY_TEXT_MAX];
    uint8_t want[GT_KEY_SIZE], got[GT_KEY_SIZE];

    must(gt_key_format_relay(key, text) == 0 && gt_key_parse(text, NULL, &relay) == 0);
    must(gt_key_client(key, GT_ROLE_OPERATOR, "a", want) == 0);
    must(gt_key_client(&relay, GT_ROLE_OPERATOR, "a", got) == 0);
    must(memcmp(want, got, sizeof(got)) == 0);
    must(gt_key_format_device(key, "d.e", text) == 0 && gt_key_parse(text, NULL, &device) == 0);
    must(gt_key_device(key, "d.e", want) == 0 && gt_key_device(&device, "d.e", got) == 0);
    must(memcmp(want, got, sizeof(got)) == 0);
    check_operator_texts(key);
}

static void check_key(const struct gt_key *key)
{
    uint8_t out[GT_KEY_SIZE];

    switch (key->kind) {
    case GT_KEY_MASTER: check_master(key); break;
    case GT_KEY_RELAY: must(gt_key_device(key, "a", out) == GT_KEY_E_NOT_HELD); break;
    case GT_KEY_DEVICE:
        must(gt_key_device(key, key->name, out) == 0);
        must(gt_key_client(key, GT_ROLE_OPERATOR, key->name, out) == GT_KEY_E_NOT_HELD);
        break;
    case GT_KEY_OPERATOR: check_operator(key); break;
    }
}

static void check_identity(const uint8_t *data, size_t n)
{
    char name[GT_NAME_MAX + 1], again[GT_IDENTITY_MAX + 1];
    enum gt_role role;

    if (!gt_key_parse_identity(gt_span(data, n), &role, name))
        return;
    gt_key_identity(role, name, again);
    must(strlen(again) == n && memcmp(again, data, n) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    char text[2048] = "";
    struct gt_key key;

    check_identity(data, n);
    if (n > sizeof(text) - 2)
        return 0;
    if (n)
        memcpy(text, data, n);
    const char *iv = text + strlen(text) + 1; /* "" if there is no NUL */
    if (!is_slow(text) && gt_key_parse(text, iv, &key) == 0)
        check_key(&key);
    return 0;
}
