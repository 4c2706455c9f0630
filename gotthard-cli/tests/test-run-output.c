/* SPDX-License-Identifier: ISC */
/* Lines of devices: no control character reaches the terminal, and text stays as it is. */
#include "run-output.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void assert_clean(struct gt_span line, const char *wanted)
{
    char clean[256];

    assert_string_equal(run_output_clean(line, clean, sizeof(clean)), wanted);
}

static void test_clean_keeps_text(void **state)
{
    assert_clean(gt_span_text(""), "");
    assert_clean(gt_span_text("a\tb \\ ä €"), "a\tb \\ ä €");
}

static void test_clean_escapes_control_characters(void **state)
{
    assert_clean(gt_span_text("\033[2J\r\b\177"), "\\x1b[2J\\x0d\\x08\\x7f");
    assert_clean(gt_span_text("a\302\233b\302\240"), "a\\xc2\\x9bb\302\240"); /* CSI; a blank */
    assert_clean(gt_span("a\0b", 3), "a\\x00b");
    assert_clean(gt_span_text("\377\033"), "\\xff\\x1b"); /* not UTF-8 */
}

static void test_clean_ends_within_its_room(void **state)
{
    char line[300], clean[64];

    memset(line, '\033', sizeof(line));
    run_output_clean(gt_span(line, sizeof(line)), clean, sizeof(clean));
    assert_in_range(strlen(clean), 40, sizeof(clean) - 1);
}

static void test_unreachable_by_lines(void **state)
{
    assert_true(run_output_is_unreachable(
        gt_span_text("2026-01-01T00:00:00.000Z error gotthard-cli: [GTD-E31] gw-1 is offline; x")));
    assert_false(
        run_output_is_unreachable(gt_span_text("pi@gw-1: Permission denied (publickey).")));
    assert_true(
        run_output_is_unreachable(gt_span_text("Connection timed out during banner exchange")));
    assert_false(run_output_is_unreachable(gt_span_text("")));
}

static void test_warning_of_each_device_is_taken(void **state)
{
    struct print print = {.style = PRINT_LINES, .is_quiet = true};
    bool is_warned = true;
    struct gt_span warning = gt_span_text("warn gotthard-cli: any holder of the fleet key can "
                                          "impersonate gw-1: /x/devices.pins does not exist");

    assert_true(run_output_take_warning(&print, warning, &is_warned));
    assert_false(run_output_take_warning(&print, gt_span_text("any holder"), &is_warned));
    is_warned = false;
    assert_true(run_output_take_warning(&print, warning, &is_warned));
    assert_true(is_warned);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_clean_keeps_text),
        cmocka_unit_test(test_clean_escapes_control_characters),
        cmocka_unit_test(test_clean_ends_within_its_room),
        cmocka_unit_test(test_unreachable_by_lines),
        cmocka_unit_test(test_warning_of_each_device_is_taken),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
