/* SPDX-License-Identifier: ISC */
/* config-secret.c: files of secrets as editors, shells, systemd and keygen write them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "gotthard/config/config-secret.h"

#define BOM "\xef\xbb\xbf"

static const char *find(const char *text, char **ret_secret)
{
    static char copy[256];

    assert_true(strlen(text) < sizeof(copy));
    strcpy(copy, text);
    return gt_configsecret_find(copy, "T_KEY", ret_secret);
}

static void test_find_accepts_each_form(void **state)
{
    static const char *const texts[] = {
        "hush",
        "hush\n",
        "hush\r\n",
        BOM "hush\r\n",
        "\n\r\nhush\n\n",
        "T_KEY=hush",
        "T_KEY=hush\r\nT_IV=salt\r\n",
        BOM "T_KEY=hush\n",
        "export T_KEY=hush\n",
        "  export  T_KEY=hush  \n",
        "T_KEY=\"hush\"\n",
        "export T_KEY='hush'\r\n",
        "# the key\n\nT_IV=salt\nT_KEY=hush\t\n#T_KEY=old\nNOT_T_KEY=a\nT_KEYS=b\n",
    };

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        char *secret = NULL;
        const char *why = find(texts[i], &secret);

        if (why)
            fail_msg("%s: %s", texts[i], why);
        assert_string_equal(secret, "hush");
    }
}

static void test_find_keeps_a_secret_alone_verbatim(void **state)
{
    char *secret = NULL;

    assert_null(find(" \"open sesame\" \n", &secret));
    assert_string_equal(secret, " \"open sesame\" ");
    assert_null(find("T_KEY=open \"s\" = e#\n", &secret));
    assert_string_equal(secret, "open \"s\" = e#");
}

static void test_find_rejects_what_could_be_meant_otherwise(void **state)
{
    static const struct {
        const char *text, *why;
    } cases[] = {
        {"T_KEY=a\nT_KEY=b\n", "given twice"},
        {"T_KEY = a\n", "blanks before"},
        {"T_KEY=\"a\n", "unclosed quote"},
        {"T_KEY=a'\n", "unclosed quote"},
        {"T_KEY='a' 'b'\n", "unclosed quote"},
        {"GOTTHARD_CRYPT_IV=a\n", "no line with the expected"},
        {"export OTHER=a\n", "no line with the expected"},
        {"a\nb\n", "several lines"},
        {"# key\na\n", "several lines"},
        {"T_KEY=\n", "empty"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char *secret = NULL;
        const char *why = find(cases[i].text, &secret);

        if (!why || !strstr(why, cases[i].why))
            fail_msg("%s: %s", cases[i].text, why ? why : "accepted");
        assert_null(secret && *secret ? secret : NULL);
    }
}

static void test_find_reports_files_without_content(void **state)
{
    static const char *const texts[] = {"", "\n", " \r\n", BOM};

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        char *secret = NULL;

        assert_string_equal(find(texts[i], &secret), "empty file or variable, expected a secret");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_find_accepts_each_form),
        cmocka_unit_test(test_find_keeps_a_secret_alone_verbatim),
        cmocka_unit_test(test_find_rejects_what_could_be_meant_otherwise),
        cmocka_unit_test(test_find_reports_files_without_content),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
