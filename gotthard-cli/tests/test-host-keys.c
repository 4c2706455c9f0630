/* SPDX-License-Identifier: ISC */
/* host-keys.c: what of a device's host keys becomes a line of known_hosts. */
#include "host-keys.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void check(const char *key, const char *wanted)
{
    struct gt_extensions extensions = {.host_keys = {gt_span_text(key)}, .n_host_keys = 1};
    char text[256];

    host_keys_format(&extensions, text, sizeof(text));
    assert_string_equal(text, wanted);
}

static void test_key_becomes_a_line_without_its_comment(void **state)
{
    check("ssh-ed25519 AAAAC3Nz+/==", "ssh-ed25519 AAAAC3Nz+/==\n");
    check("ssh-ed25519 AAAAC3Nz root@oli", "ssh-ed25519 AAAAC3Nz\n");
    check("sk-ssh-ed25519@openssh.com AAAA x y", "sk-ssh-ed25519@openssh.com AAAA\n");
}

static void test_text_that_is_no_key_is_left_out(void **state)
{
    static const char *const texts[] = {
        "",
        "ssh-ed25519",
        "ssh-ed25519 ",
        " AAAA",
        "@cert-authority * ssh-ed25519 AAAA",
        "* ssh-ed25519 AAAA",
        "a,b ssh-ed25519",
        "ssh-ed25519 AAAA\nevil ssh-ed25519 AAAA",
        "ssh-ed25519 AA\tAA",
        "ssh-ed25519  AAAA",
        "#ssh-ed25519 AAAA",
        "ssh-ed25519 AAAA#",
        "|1|hash ssh-ed25519",
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(texts); i++)
        check(texts[i], "");
}

static void test_all_keys_that_fit_are_written(void **state)
{
    struct gt_extensions extensions = {.n_host_keys = 3};
    char text[sizeof("a AAAA\nc CCCC\n")];

    extensions.host_keys[0] = gt_span_text("a AAAA");
    extensions.host_keys[1] = gt_span_text("b BBBBBBBBBBBBBB");
    extensions.host_keys[2] = gt_span_text("c CCCC");
    host_keys_format(&extensions, text, sizeof(text));
    assert_string_equal(text, "a AAAA\nc CCCC\n");
    host_keys_format(&extensions, text, sizeof(text) - 1);
    assert_string_equal(text, "a AAAA\n");
    extensions.n_host_keys = 0;
    host_keys_format(&extensions, text, 1);
    assert_string_equal(text, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_key_becomes_a_line_without_its_comment),
        cmocka_unit_test(test_text_that_is_no_key_is_left_out),
        cmocka_unit_test(test_all_keys_that_fit_are_written),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
