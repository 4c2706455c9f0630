/* SPDX-License-Identifier: ISC */
/* target.c: every form of the grammar, and what must never be taken for one of them. */
#include "target.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define DEFAULT_LOCAL 4444

struct good {
    const char *text;
    bool is_local_given;
    uint16_t local;
    const char *service;
};

static const struct good goods[] = {
    {"ssh", false, DEFAULT_LOCAL, "ssh"},
    {"22", false, DEFAULT_LOCAL, "22"},
    {"1023", false, DEFAULT_LOCAL, "1023"},
    {"1024", false, 1024, "1024"},
    {"1880", false, 1880, "1880"},
    {"65535", false, 65535, "65535"},
    {"8080:1880", true, 8080, "1880"},
    {"80:1", true, 80, "1"},
    {":22", true, 0, "22"},
    {"0:22", true, 0, "22"},
    {":ssh", true, 0, "ssh"},
    {"2222:ssh", true, 2222, "ssh"},
    {"node-red.2", false, DEFAULT_LOCAL, "node-red.2"},
    {"8080:10.0.0.5:80", true, 8080, "10.0.0.5:80"},
    {":10.0.0.5:80", true, 0, "10.0.0.5:80"},
    {"10.0.0.5:80", false, DEFAULT_LOCAL, "10.0.0.5:80"},
    {"printer:631", false, DEFAULT_LOCAL, "printer:631"},
    {"[::1]:80", false, DEFAULT_LOCAL, "[::1]:80"},
    {"8080:[fe80::1]:80", true, 8080, "[fe80::1]:80"},
    {":[::1]:80", true, 0, "[::1]:80"},
};

static const char *const bads[] = {
    "",           ":",
    "::",         ":::1",
    "::1:80",     "8080:",
    "8080::80",   "0",
    "8080:0",     "65536",
    "65536:22",   "022",
    "8080:022",   "022:22",
    "000000:22",  "4294967318",
    "+22",        "-22",
    " 22",        "22 ",
    "0x16",       "22:22:22",
    "1:2:3:4",    "ssh:",
    "ssh:ssh",    "ssh:0",
    "ssh:65536",  "a b",
    "a/b",        "a#b",
    "-x",         "user@host",
    "[::1]",      "[::1]:",
    "[::1:80",    "[zz]:80",
    "8080:[::1]", "99999999999999999999:22",
    "\x1b[31m",   "ssh\n",
};

static void test_good(void **state)
{
    for (size_t i = 0; i < GT_ARRAY_SIZE(goods); i++) {
        struct target target;
        const char *why = NULL;
        int err = target_parse(goods[i].text, DEFAULT_LOCAL, &target, &why);
        if (err != 0)
            fail_msg("\"%s\" refused: %s", goods[i].text, why);
        assert_string_equal(target.service, goods[i].service);
        assert_int_equal(target.is_local_given, goods[i].is_local_given);
        assert_int_equal(target.local, goods[i].local);
    }
}

static void test_bad(void **state)
{
    for (size_t i = 0; i < GT_ARRAY_SIZE(bads); i++) {
        struct target target = {.local = 7};
        const char *why = NULL;
        if (target_parse(bads[i], DEFAULT_LOCAL, &target, &why) != TARGET_E_BAD)
            fail_msg("\"%s\" taken as \"%s\" on %u", bads[i], target.service, target.local);
        assert_non_null(why);
        assert_int_equal(target.local, 7); /* untouched */
    }
}

static void test_length(void **state)
{
    for (size_t n = GT_SERVICE_MAX - 1; n <= GT_SERVICE_MAX + 1; n++) {
        char text[GT_SERVICE_MAX + 2];
        struct target target;
        const char *why;
        memset(text, 'a', n);
        text[n] = 0;
        int err = target_parse(text, 0, &target, &why);
        assert_int_equal(err, n <= GT_SERVICE_MAX ? 0 : TARGET_E_BAD);
    }
}

/* Whatever is taken says the same again when it is written out. */
static void test_random(void **state)
{
    static const char alphabet[] = "0123:[]s.-h9 /";
    unsigned seed = (unsigned)getpid();
    printf("seed %u\n", seed);
    srandom(seed);
    for (int i = 0; i < 100000; i++) {
        char text[24], again[GT_SERVICE_MAX + 8];
        size_t n = (size_t)random() % (sizeof(text) - 1);
        for (size_t j = 0; j < n; j++)
            text[j] = alphabet[(size_t)random() % (sizeof(alphabet) - 1)];
        text[n] = 0;
        struct target first, second;
        const char *why;
        if (target_parse(text, DEFAULT_LOCAL, &first, &why) != 0)
            continue;
        if (first.is_local_given)
            snprintf(again, sizeof(again), "%u:%s", first.local, first.service);
        else
            snprintf(again, sizeof(again), "%s", first.service);
        assert_int_equal(target_parse(again, DEFAULT_LOCAL, &second, &why), 0);
        assert_memory_equal(&first, &second, sizeof(first));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),
        cmocka_unit_test(test_bad),
        cmocka_unit_test(test_length),
        cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
