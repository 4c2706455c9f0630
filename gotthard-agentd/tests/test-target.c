/* SPDX-License-Identifier: ISC */
/*
 * target.c: valid names, and the target that an operator's text resolves to.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "target.h"

static struct targets make(const char *const (*pairs)[2], size_t n)
{
    struct gt_config_pair copies[8];
    struct gt_config_map map = {copies, n};
    struct targets targets = {0};
    char why[256];

    for (size_t i = 0; i < n; i++)
        copies[i] = (struct gt_config_pair){(char *)pairs[i][0], (char *)pairs[i][1]};
    assert_int_equal(targets_add_map(&targets, &map, why, sizeof(why)), 0);
    return targets;
}

static void test_resolve_keeps_udp_and_tcp_apart(void **state)
{
    static const char *const pairs[][2] = {
        {"ssh", "127.0.0.1:53"}, {"dns", "udp:127.0.0.1:53"}, {"six", "udp:[::1]:54"}};
    static const struct {
        const char *text, *name;
    } cases[] = {
        {"udp:dns", "udp:dns"},
        {"udp:53", "udp:dns"},
        {"udp:127.0.0.1:53", "udp:dns"},
        {"udp:[::1]:54", "udp:six"},
        {"dns", NULL},
        {"54", NULL},
        {"udp:ssh", NULL},
        {"53", "ssh"},
        {"127.0.0.1:53", "ssh"},
        {"udp:", NULL},
        {"udp:udp:dns", NULL},
    };
    struct targets targets = make(pairs, GT_ARRAY_SIZE(pairs));

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        const struct target *target = targets_resolve(&targets, cases[i].text);

        if (cases[i].name)
            assert_string_equal(target->name, cases[i].name);
        else
            assert_null(target);
    }
    targets_deinit(&targets);
}

static void test_resolve_finds_configured_targets_only(void **state)
{
    static const char *const pairs[][2] = {
        {"ssh", "127.0.0.1:22"},
        {"web", "127.0.0.1:80"},
        {"other-web", "Printer.local:80"},
        {"v6", "[::1]:8080"},
    };

    static const struct {
        const char *text, *name;
    } cases[] = {
        {"ssh", "ssh"},
        {"22", "ssh"},
        {"80", "web"},
        {"127.0.0.1:80", "web"},
        {"printer.local:80", "other-web"},
        {"[::1]:8080", "v6"},
        {"8080", "v6"},
        {"", NULL},
        {"SSH", NULL},
        {"23", NULL},
        {"022", NULL},
        {" 22", NULL},
        {"0", NULL},
        {"65558", NULL}, /* 22 in 16 bits */
        {"127.0.0.1", NULL},
        {"127.0.0.1:23", NULL},
        {"127.0.0.2:22", NULL},
        {"localhost:22", NULL}, /* the same address, but not the configured text */
        {"ssh:22", NULL},
    };
    struct targets targets = make(pairs, GT_ARRAY_SIZE(pairs));

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        const struct target *target = targets_resolve(&targets, cases[i].text);

        if (!cases[i].name)
            assert_null(target);
        else
            assert_string_equal(target->name, cases[i].name);
    }
    targets_deinit(&targets);
    assert_null(targets_resolve(&targets, "ssh"));
}

static void test_add_map_rejects_invalid_pairs(void **state)
{
    static const char *const pairs[][2] = {
        {"22", "127.0.0.1:22"},
        {"", "127.0.0.1:22"},
        {"a b", "127.0.0.1:22"},
        {"ssh", "127.0.0.1"},
        {"ssh", "127.0.0.1:0"},
        {"ssh", "127.0.0.1:65536"},
        {"ssh", ""},
        {"ssh", "http://x:80"},
        {"ssh", "127.0.0.1:22 "},
        {"-x", "127.0.0.1:22"},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(pairs); i++) {
        struct gt_config_pair pair = {(char *)pairs[i][0], (char *)pairs[i][1]};
        struct gt_config_map map = {&pair, 1};
        struct targets targets = {0};
        char why[256] = "";

        assert_int_equal(targets_add_map(&targets, &map, why, sizeof(why)), TARGET_E_BAD);
        assert_true(why[0] != 0);
        targets_deinit(&targets);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_resolve_keeps_udp_and_tcp_apart),
        cmocka_unit_test(test_resolve_finds_configured_targets_only),
        cmocka_unit_test(test_add_map_rejects_invalid_pairs),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
