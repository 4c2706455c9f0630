/* SPDX-License-Identifier: ISC */
/* checkup.c: rows, their lines for people in every width, and their JSON. */
#include "gotthard/doctor/checkup.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct gt_check_row last;
static unsigned n_rows;

static void on_row(void *userdata, const struct gt_check_row *row)
{
    last = *row;
    n_rows++;
}

static const struct gt_check_style plain = {.has_marks = false};
static const struct gt_check_style marked = {.has_marks = true};
static const struct gt_check_fault fault = {.id = 50, .exit = 69, .remedy = "start the relay"};

static char lines[GT_CHECK_LINES];

static const char *format(const struct gt_check_style *style)
{
    return gt_check_format(&last, style, lines, sizeof(lines));
}

static void test_checkup_exit_is_of_the_first_failure(void **state)
{
    struct gt_checkup checkup = {.on_row = on_row};
    struct gt_check_fault second = {.id = 21, .exit = 77, .remedy = "x"};

    gt_checkup_ok(&checkup, "clock", "today");
    gt_checkup_warn(&checkup, "key", "use another", "weak");
    assert_int_equal(checkup.exit, 0);
    gt_checkup_fail(&checkup, "relay TCP", &fault, "refused");
    gt_checkup_fail(&checkup, "relay key", &second, "refused");
    gt_checkup_skip(&checkup, "tunnel", "no relay");
    assert_int_equal(checkup.exit, 69);
    assert_string_equal(gt_checkup_format(&checkup, lines, sizeof(lines)),
                        "2 failures, 1 warning.\n");
}

static void test_checkup_without_fault_says_so(void **state)
{
    struct gt_checkup checkup = {.on_row = on_row};

    gt_checkup_ok(&checkup, "clock", "today");
    assert_string_equal(gt_checkup_format(&checkup, lines, sizeof(lines)), "No fault was found.\n");
}

static void test_checkup_interrupted_drops_rows(void **state)
{
    struct gt_checkup checkup = {.on_row = on_row, .is_interrupted = true};

    n_rows = 0;
    gt_checkup_fail(&checkup, "clock", &fault, "x");
    assert_int_equal(n_rows, 0);
    assert_int_equal(checkup.exit, 0);
}

static void test_format_has_mark_remedy_and_id(void **state)
{
    struct gt_checkup checkup = {.on_row = on_row};

    gt_checkup_fail(&checkup, "relay TCP", &fault, "%s", "refused");
    assert_string_equal(format(&marked), "✗ relay TCP: refused\n    start the relay  [GTD-E50]\n");
    assert_string_equal(format(&plain),
                        "error: relay TCP: refused\n    start the relay  [GTD-E50]\n");
    gt_checkup_ok(&checkup, "clock", "today");
    assert_string_equal(format(&marked), "✓ clock: today\n");
    gt_checkup_skip(&checkup, "tunnel", "no relay");
    assert_string_equal(format(&plain), "skipped: tunnel: no relay\n");
}

static void test_format_color_surrounds_the_mark(void **state)
{
    struct gt_checkup checkup = {.on_row = on_row};
    struct gt_check_style style = {.has_marks = true, .has_color = true};

    gt_checkup_ok(&checkup, "clock", "today");
    assert_string_equal(format(&style), "\033[32m✓ \033[0mclock: today\n");
}

static void test_format_escapes_text_from_outside(void **state)
{
    struct gt_checkup checkup = {.on_row = on_row};

    gt_checkup_warn(&checkup, "key", "x\033[2J", "a\nb\\c");
    assert_string_equal(format(&plain), "warning: key: a\\x0ab\\x5cc\n    x\\x1b[2J\n");
}

/* Each line fits, each word is whole, and no word is lost. */
static void test_format_breaks_lines_between_words(void **state)
{
    static const char text[] = "a firewall lets only the main port out and data uses that port";
    struct gt_checkup checkup = {.on_row = on_row};

    for (unsigned width = 40; width < 100; width++) {
        struct gt_check_style style = {.has_marks = true, .width = width};
        char words[GT_CHECK_LINES] = "", copy[GT_CHECK_LINES];

        gt_checkup_fail(&checkup, "relay ports", &fault, "%s", text);
        strcpy(copy, format(&style) + strlen("✗ "));
        for (char *line = strtok(copy, "\n"); line; line = strtok(NULL, "\n")) {
            assert_true(strlen(line) <= width);
            line += strspn(line, " ");
            sprintf(words + strlen(words), "%s%s", *words ? " " : "", line);
        }
        assert_non_null(strstr(words, text));
        assert_non_null(strstr(words, "start the relay"));
    }
}

static void test_format_keeps_a_word_longer_than_the_line(void **state)
{
    struct gt_checkup checkup = {.on_row = on_row};
    struct gt_check_style style = {.has_marks = true, .width = 40};
    char word[101];

    memset(word, 'x', sizeof(word) - 1);
    word[sizeof(word) - 1] = 0;
    gt_checkup_ok(&checkup, "configuration", "%s end", word);
    assert_non_null(strstr(format(&style), word));
    assert_non_null(strstr(format(&style), "\n    end\n"));
}

static void test_format_fits_the_largest_row(void **state)
{
    struct gt_check_row row = {.name = "key", .result = GT_CHECK_FAILURE, .id = 99};
    struct gt_check_style style = {.has_marks = true, .has_color = true, .width = 40};

    memset(row.text, '\\', sizeof(row.text) - 1); /* four bytes each, escaped */
    memset(row.remedy, '"', sizeof(row.remedy) - 1);
    gt_check_format(&row, &style, lines, sizeof(lines));
    assert_int_equal(lines[strlen(lines) - 1], '\n');
    gt_check_format_json(&row, lines, sizeof(lines));
    assert_string_equal(lines + strlen(lines) - 2, "}\n");
}

static void test_json_has_the_members_of_the_row(void **state)
{
    struct gt_checkup checkup = {.on_row = on_row};

    gt_checkup_fail(&checkup, "relay TCP", &fault, "a \"b\" \n");
    assert_string_equal(gt_check_format_json(&last, lines, sizeof(lines)),
                        "{\"event\":\"check\",\"check\":\"relay TCP\",\"result\":\"failure\","
                        "\"text\":\"a \\\"b\\\" \\\\x0a\",\"hint\":\"start the relay\","
                        "\"id\":\"GTD-E50\"}\n");
    gt_checkup_ok(&checkup, "clock", "today");
    assert_string_equal(gt_check_format_json(&last, lines, sizeof(lines)),
                        "{\"event\":\"check\",\"check\":\"clock\",\"result\":\"ok\","
                        "\"text\":\"today\"}\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_checkup_exit_is_of_the_first_failure),
        cmocka_unit_test(test_checkup_without_fault_says_so),
        cmocka_unit_test(test_checkup_interrupted_drops_rows),
        cmocka_unit_test(test_format_has_mark_remedy_and_id),
        cmocka_unit_test(test_format_color_surrounds_the_mark),
        cmocka_unit_test(test_format_escapes_text_from_outside),
        cmocka_unit_test(test_format_breaks_lines_between_words),
        cmocka_unit_test(test_format_keeps_a_word_longer_than_the_line),
        cmocka_unit_test(test_format_fits_the_largest_row),
        cmocka_unit_test(test_json_has_the_members_of_the_row),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
