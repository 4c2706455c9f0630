/* SPDX-License-Identifier: ISC */
/* host-key-alias.c: each name has an alias of its own, also if case is ignored. */
#include "host-key-alias.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void test_host_key_alias_states_the_capitals(void **state)
{
    static const struct {
        const char *device, *alias;
    } rows[] = {
        {"oli", "oli.gotthard"},
        {"Oli", "oli+1.gotthard"},
        {"oLI", "oli+6.gotthard"},
        {"GatewayOli", "gatewayoli+81.gotthard"},
        {"plant-7.pump_2:a@b", "plant-7.pump_2:a@b.gotthard"},
        {"plant-7.pump_2:a@B", "plant-7.pump_2:a@b+20000.gotthard"},
        {"A", "a+1.gotthard"},
        {"abcd", "abcd.gotthard"},
        {"abcD", "abcd+8.gotthard"},
        {"abcdE", "abcde+10.gotthard"},
    };
    char alias[HOST_KEY_ALIAS_SIZE];

    for (size_t i = 0; i < GT_ARRAY_SIZE(rows); i++)
        assert_string_equal(host_key_alias(rows[i].device, alias), rows[i].alias);
}

static void test_host_key_alias_of_the_longest_name(void **state)
{
    char device[GT_NAME_MAX + 1], alias[HOST_KEY_ALIAS_SIZE], wanted[HOST_KEY_ALIAS_SIZE];

    memset(device, 'Z', GT_NAME_MAX);
    device[GT_NAME_MAX] = 0;
    memset(wanted, 'z', GT_NAME_MAX);
    wanted[GT_NAME_MAX] = '+';
    memset(wanted + GT_NAME_MAX + 1, 'f', GT_NAME_MAX / 4);
    strcpy(wanted + GT_NAME_MAX + 1 + GT_NAME_MAX / 4, ".gotthard");
    assert_string_equal(host_key_alias(device, alias), wanted);
    assert_int_equal(strlen(alias), HOST_KEY_ALIAS_SIZE - 1);
}

/* All 256 forms of a name of 8 letters. */
static void test_host_key_alias_differs_for_names_that_differ_in_case(void **state)
{
    static char aliases[256][HOST_KEY_ALIAS_SIZE];

    for (unsigned i = 0; i < 256; i++) {
        char device[] = "gotthard";

        for (unsigned bit = 0; bit < 8; bit++)
            if (i >> bit & 1)
                device[bit] = (char)(device[bit] - 'a' + 'A');
        host_key_alias(device, aliases[i]);
        for (unsigned other = 0; other < i; other++)
            assert_int_not_equal(strcasecmp(aliases[i], aliases[other]), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_host_key_alias_states_the_capitals),
        cmocka_unit_test(test_host_key_alias_of_the_longest_name),
        cmocka_unit_test(test_host_key_alias_differs_for_names_that_differ_in_case),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
