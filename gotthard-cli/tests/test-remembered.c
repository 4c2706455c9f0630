/* SPDX-License-Identifier: ISC */
/* remembered.c: lines of the file of remembered devices, also malformed ones. */
#include "remembered.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "gotthard/base/text.h"

static const struct {
    const char *line, *name, *words; /* ->name NULL: malformed */
} rows[] = {
    {"a 1", "a", ""},
    {"a 1 ", "a", ""},
    {"a 1 ssh", "a", "ssh"},
    {"gw:2@x 1790000000 ssh web", "gw:2@x", "ssh web"},
    {"a 1  ssh   web ", "a", "ssh web"},
    {"a 1 $(id) ssh `id` x;y web -rf", "a", "ssh web"},
    {"a 1 $(id)", "a", ""},
    {"a 1 ssh site=zurich role=$(id) =x y= 1z=x", "a", "ssh site=zurich"},
    {"a 9223372036854775807 ssh", "a", "ssh"},
    {"", NULL, NULL},
    {"a", NULL, NULL},
    {"a ", NULL, NULL},
    {"a x", NULL, NULL},
    {"a 0", NULL, NULL},
    {"a 1x ssh", NULL, NULL},
    {"a 9223372036854775808", NULL, NULL},
    {"-a 1", NULL, NULL},
    {"$(id) 1 ssh", NULL, NULL},
    {" 1 ssh", NULL, NULL},
};

static void test_remembered_lines(void **state)
{
    for (size_t i = 0; i < GT_ARRAY_SIZE(rows); i++) {
        char line[128];
        struct remembered got = {0};

        snprintf(line, sizeof(line), "%s", rows[i].line);
        bool is_valid = remembered_parse(line, &got);
        if (is_valid != (rows[i].name != NULL))
            fail_msg("\"%s\" is %svalid", rows[i].line, is_valid ? "" : "not ");
        if (!is_valid)
            continue;
        assert_string_equal(got.name, rows[i].name);
        assert_string_equal(got.words, rows[i].words);
    }
}

/* The longest name of a service, and one more. */
static void test_remembered_service_of_any_length(void **state)
{
    for (size_t n = GT_SERVICE_MAX - 1; n <= GT_SERVICE_MAX + 1; n++) {
        char line[GT_SERVICE_MAX + 32] = "a 1 ";
        struct remembered got;

        memset(line + 4, 's', n);
        line[4 + n] = 0;
        assert_true(remembered_parse(line, &got));
        assert_int_equal(strlen(got.words), n <= GT_SERVICE_MAX ? n : 0);
    }
}

static void test_remembered_device_is_found_by_its_whole_name(void **state)
{
    static const char text[] = "ab 1 x\na 2 ssh web\nabc 3\nb 4";

    assert_ptr_equal(remembered_find(text, "ab"), text);
    assert_ptr_equal(remembered_find(text, "a"), strstr(text, "a 2"));
    assert_ptr_equal(remembered_find(text, "b"), strstr(text, "b 4"));
    assert_null(remembered_find(text, "c"));
    assert_null(remembered_find(text, "2"));
    assert_null(remembered_find("", "a"));
    assert_null(remembered_find("a", "a"));
}

static bool has_services(const char *device, const char *services)
{
    static const char text[] = "a 1\nb 2 ssh\nc 3 ssh k=v web\nd ";

    return remembered_equal(remembered_words(remembered_find(text, device)), services,
                            REMEMBERED_SERVICES);
}

static void test_remembered_services_are_compared_exactly(void **state)
{
    assert_true(has_services("a", ""));
    assert_false(has_services("a", "ssh"));
    assert_true(has_services("b", "ssh"));
    assert_false(has_services("b", "ss"));
    assert_false(has_services("b", "ssh web"));
    assert_true(has_services("c", "ssh web"));
    assert_true(has_services("c", "ssh web other=tag"));
    assert_false(has_services("c", "ssh"));
    assert_false(has_services("d", "ssh"));
}

static void test_remembered_words_are_written_by_kind(void **state)
{
    static const char words[] = "ssh site=zurich web role=gateway\nnext 1 sftp";
    char got[128] = "";
    FILE *file = fmemopen(got, sizeof(got), "w");

    assert_non_null(file);
    remembered_write(file, words, REMEMBERED_SERVICES);
    remembered_write(file, words, REMEMBERED_TAGS);
    fclose(file);
    assert_string_equal(got, " ssh web site=zurich role=gateway");
}

/* Whatever the file has, the results are inside it. */
static void test_remembered_random_text(void **state)
{
    const char *given = getenv("GOTTHARD_SEED");
    unsigned seed = given ? (unsigned)strtoul(given, NULL, 10) : (unsigned)getpid();

    print_message("seed %u\n", seed);
    srand(seed);
    for (int i = 0; i < 20000; i++) {
        static const char alphabet[] = "ab1 9-$\n";
        char line[24];
        struct remembered got;
        size_t n = (size_t)rand() % sizeof(line);

        for (size_t at = 0; at < n; at++)
            line[at] = alphabet[(size_t)rand() % (sizeof(alphabet) - 1)];
        line[n < sizeof(line) ? n : sizeof(line) - 1] = 0;
        const char *at = remembered_find(line, "a");
        if (at)
            (void)remembered_equal(remembered_words(at), "b", REMEMBERED_SERVICES);
        if (remembered_parse(line, &got)) {
            assert_true(gt_text_is_name(gt_span_text(got.name)));
            assert_true(got.words >= line && got.words <= line + n);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_remembered_lines),
        cmocka_unit_test(test_remembered_service_of_any_length),
        cmocka_unit_test(test_remembered_device_is_found_by_its_whole_name),
        cmocka_unit_test(test_remembered_services_are_compared_exactly),
        cmocka_unit_test(test_remembered_words_are_written_by_kind),
        cmocka_unit_test(test_remembered_random_text),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
