/* SPDX-License-Identifier: ISC */
/* The news about relays: the latest of each, for the configured ones only. */
#include "relay-views.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static void add(struct targets *relays, const char *name, const char *host)
{
    struct target target = {.address.port = 7000};

    snprintf(target.name, sizeof(target.name), "%s", name);
    snprintf(target.address.host, sizeof(target.address.host), "%s", host);
    assert_int_equal(targets_add(relays, &target), 0);
}

static void test_views_have_the_latest_news(void **state)
{
    struct targets relays = {0};
    struct relay_views views = {0};
    struct gt_device_status status = {0};

    add(&relays, "main", "relay.example.org");
    add(&relays, "alps", "::1");
    add(&relays, "unused", "192.0.2.1");
    relay_views_note(&views, "main", "Connection refused", 10.);
    relay_views_note(&views, "alps", NULL, 11.);
    relay_views_note(&views, "main", NULL, 12.);
    relay_views_note(&views, "alps", "a\nb", 13.);
    relay_views_note(&views, "removed", NULL, 14.);
    relay_views_fill(&views, &relays, 20.5, &status);
    assert_int_equal(status.n_relays, 3);
    assert_int_equal(status.relays[0].state, GT_STATUS_RELAY_REACHED);
    assert_int_equal(status.relays[0].age_s, 8);
    assert_string_equal(status.relays[0].address, "relay.example.org:7000");
    assert_string_equal(status.relays[0].why, "");
    assert_int_equal(status.relays[1].state, GT_STATUS_RELAY_FAILED);
    assert_string_equal(status.relays[1].address, "[::1]:7000");
    assert_string_equal(status.relays[1].why, "a\\x0ab");
    assert_int_equal(status.relays[2].state, GT_STATUS_RELAY_UNKNOWN);
    targets_deinit(&relays);
}

static void test_views_beyond_the_limit_replace_the_oldest(void **state)
{
    struct targets relays = {0};
    struct relay_views views = {0};
    struct gt_device_status status = {0};
    char name[8];

    for (int i = 0; i <= GT_STATUS_RELAYS_MAX; i++) {
        snprintf(name, sizeof(name), "r%d", i);
        add(&relays, name, "relay.example.org");
        relay_views_note(&views, name, NULL, i == 1 ? 0. : i + 1.);
    }
    relay_views_fill(&views, &relays, 100., &status);
    assert_int_equal(status.n_relays, GT_STATUS_RELAYS_MAX);
    for (size_t i = 0; i < status.n_relays; i++)
        assert_int_equal(status.relays[i].state,
                         i == 1 ? GT_STATUS_RELAY_UNKNOWN : GT_STATUS_RELAY_REACHED);
    targets_deinit(&relays);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_views_have_the_latest_news),
        cmocka_unit_test(test_views_beyond_the_limit_replace_the_oldest),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
