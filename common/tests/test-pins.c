/* SPDX-License-Identifier: ISC */
/*
 * Pin files: the accepted lines. Any other line rejects the whole file, with its number.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "gotthard/trust/pins.h"

#define HEX    "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define OTHER  "100102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define BASE64 "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

static struct gt_pin *parse(const char *text, size_t *ret_n)
{
    struct gt_pin *pins = NULL;
    size_t line;
    const char *why;

    assert_int_equal(gt_pins_parse(gt_span_text(text), &pins, ret_n, &line, &why), 0);
    return pins;
}

static void test_parse_accepts_each_form_of_a_pin(void **state)
{
    static const char *forms[] = {
        "alice " HEX,
        "alice " HEX "\n",
        "alice\t" BASE64 "\n",
        "  alice   AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8  \t\n",
        "# us\n\nalice 000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F # me\n",
        "alice " HEX " role=operator services=*\n",
        "alice " HEX "\r\n",
        "\xef\xbb\xbf# us\r\n\r\nalice " HEX " # me\r\n",
        "\xef\xbb\xbf"
        "alice " HEX,
        "alice 00:01:02:03:04:05:06:07:08:09:0a:0b:0c:0d:0e:0f:10:11:12:13:14:15:16:17:18:19:1a:"
        "1b:1c:1d:1e:1f\n",
        "alice 00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14:15:16:17:18:19:1A:"
        "1B:1C:1D:1E:1F\r\n",
        "alice SHA256:" BASE64 "\n",
        "alice sha256:" HEX "\n",
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(forms); i++) {
        size_t n;
        struct gt_pin *pins = parse(forms[i], &n);

        assert_int_equal(n, 1);
        assert_string_equal(pins->name, "alice");
        for (uint8_t j = 0; j < GT_KEY_SIZE; j++)
            assert_int_equal(pins->fingerprint[j], j);
        assert_int_equal(pins->role, GT_PIN_OPERATOR);
        assert_true(gt_pin_allows_service(pins, "ssh"));
        assert_false(gt_pin_is_admin(pins));
        assert_int_equal(pins->until, 0);
        gt_pins_free(pins, n);
    }
}

static void test_parse_reads_role_services_and_expiry(void **state)
{
    size_t n;
    struct gt_pin *pins =
        parse("alice " HEX " until=2024-02-29 services=ssh,127.0.0.1:80 role=admin\n"
              "box " HEX " role=device\n"
              "alice " OTHER "\n",
              &n);

    assert_int_equal(n, 3);
    assert_true(gt_pin_is_admin(&pins[0]));
    assert_int_equal(pins[0].until, 1709251200); /* 2024-03-01 00:00 UTC */
    assert_true(gt_pin_allows_service(&pins[0], "ssh"));
    assert_true(gt_pin_allows_service(&pins[0], "127.0.0.1:80"));
    assert_false(gt_pin_allows_service(&pins[0], "ss"));
    assert_false(gt_pin_allows_service(&pins[0], "sshd"));
    assert_false(gt_pin_allows_service(&pins[0], "SSH"));
    assert_false(gt_pin_allows_service(&pins[0], ""));
    assert_int_equal(pins[1].role, GT_PIN_DEVICE);
    assert_false(gt_pin_is_admin(&pins[1]));
    gt_pins_free(pins, n);
}

static void test_parse_rejects_malformed_lines(void **state)
{
    static const char *bad[] = {
        "alice",
        "alice nothash",
        "alice 000102",
        "alice " HEX "00",
        "alice " BASE64 "A",
        "alice AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh",
        "alice g00102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
        HEX " alice",
        HEX,
        "a/b " HEX,
        "-a " HEX,
        "+ " HEX,
        "\xef\xbb\xbf"
        "alice " HEX,
        "\xc3\xa4 " HEX,
        "alice " HEX "\r role=admin",
        "alice " HEX "\r\r",
        "alice 00:0102:03:04:05:06:07:08:09:0a:0b:0c:0d:0e:0f:10:11:12:13:14:15:16:17:18:19:1a:1b:1c:1d:1e:1f",
        "alice 00:01:02:03:04:05:06:07:08:09:0a:0b:0c:0d:0e:0f:10:11:12:13:14:15:16:17:18:19:1a:1b:1c:1d:1e",
        "alice 000:1:02:03:04:05:06:07:08:09:0a:0b:0c:0d:0e:0f:10:11:12:13:14:15:16:17:18:19:1a:1b:1c:1d:1e:1f",
        "alice SHA256:",
        "alice MD5:" HEX,
        "alice " HEX " \x1b[0m",
        "alice " HEX " admin",
        "enroll-1 " HEX " role=device",
        "alice " HEX " role",
        "alice " HEX " role=",
        "alice " HEX " role=root",
        "alice " HEX " Role=admin",
        "alice " HEX " role=admin role=admin",
        "alice " HEX " services=",
        "alice " HEX " services=a,",
        "alice " HEX " services=,a",
        "alice " HEX " services=a,,b",
        "alice " HEX " services=a,*",
        "alice " HEX " services=s*",
        "alice " HEX " services=a, b",
        "alice " HEX " until=",
        "alice " HEX " until=tomorrow",
        "alice " HEX " until=2024-2-9",
        "alice " HEX " until=2024-13-01",
        "alice " HEX " until=2024-00-01",
        "alice " HEX " until=2024-01-00",
        "alice " HEX " until=2023-02-29",
        "alice " HEX " until=2024-04-31",
        "alice " HEX " until=1999-12-31",
        "alice " HEX " until=2024/01/01",
        "alice " HEX " until=2024-01-01T00:00",
        "alice " HEX " until=+024-01-01",
        "alice " HEX " expires=2024-01-01",
        "alice " HEX " role=admin # ok\nalice " HEX,
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(bad); i++) {
        char text[1024];
        struct gt_pin *pins = NULL;
        size_t n = 77, line = 0;
        const char *why = NULL;

        snprintf(text, sizeof(text), "# first\nbob %s\n%s\ncarol %s\n", OTHER, bad[i], OTHER);
        if (gt_pins_parse(gt_span_text(text), &pins, &n, &line, &why) != GT_PINS_E_SYNTAX)
            fail_msg("accepted: %s", bad[i]);
        assert_int_equal(line, strchr(bad[i], '\n') ? 4 : 3);
        assert_non_null(why);
        assert_null(pins);
        assert_int_equal(n, 77);
    }
}

static void test_parse_rejects_nul_byte(void **state)
{
    static const char text[] = "bob " OTHER "\0role=device\n";
    struct gt_pin *pins = NULL;
    size_t n, line;
    const char *why;

    assert_int_equal(gt_pins_parse(gt_span(text, sizeof(text) - 1), &pins, &n, &line, &why),
                     GT_PINS_E_SYNTAX);
}

static void test_parse_enforces_limits(void **state)
{
    char *text = malloc(2 << 20);
    struct gt_pin *pins = NULL;
    size_t n = 0, line, at = 0;
    const char *why;

    assert_non_null(text);
    for (unsigned i = 0; i < GT_PINS_MAX; i++)
        at += (size_t)sprintf(text + at, "n%u %064x\n", i, i);
    assert_int_equal(gt_pins_parse(gt_span(text, at), &pins, &n, &line, &why), 0);
    assert_int_equal(n, GT_PINS_MAX);
    gt_pins_free(pins, n);
    at += (size_t)sprintf(text + at, "more %s\n", HEX);
    assert_int_equal(gt_pins_parse(gt_span(text, at), &pins, &n, &line, &why), GT_PINS_E_SYNTAX);
    assert_int_equal(line, GT_PINS_MAX + 1);
    assert_string_equal(why, "too many pins");

    at = (size_t)sprintf(text, "alice %s services=s0", HEX);
    for (unsigned i = 1; i < GT_PIN_SERVICES_MAX; i++)
        at += (size_t)sprintf(text + at, ",s%u", i);
    assert_int_equal(gt_pins_parse(gt_span(text, at), &pins, &n, &line, &why), 0);
    assert_int_equal(pins->n_services, GT_PIN_SERVICES_MAX);
    assert_true(gt_pin_allows_service(pins, "s63"));
    gt_pins_free(pins, n);
    at += (size_t)sprintf(text + at, ",more");
    assert_int_equal(gt_pins_parse(gt_span(text, at), &pins, &n, &line, &why), GT_PINS_E_SYNTAX);

    memset(text, ' ', 8192);
    assert_int_equal(gt_pins_parse(gt_span(text, 4096), &pins, &n, &line, &why), 0);
    assert_int_equal(gt_pins_parse(gt_span(text, 4097), &pins, &n, &line, &why), GT_PINS_E_SYNTAX);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse_accepts_each_form_of_a_pin),
        cmocka_unit_test(test_parse_reads_role_services_and_expiry),
        cmocka_unit_test(test_parse_rejects_malformed_lines),
        cmocka_unit_test(test_parse_rejects_nul_byte),
        cmocka_unit_test(test_parse_enforces_limits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
