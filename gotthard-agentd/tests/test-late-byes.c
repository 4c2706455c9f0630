/* SPDX-License-Identifier: ISC */
/* late-byes.c: only relays of the present configuration are contacted. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "late-byes.h"

static void on_change(void *userdata)
{
}

static void test_late_bye_goes_to_configured_relays_only(void **state)
{
    static const struct target relay = {"main", {"127.0.0.1", 1}};
    static const struct {
        struct target relay;
        bool is_sent;
    } cases[] = {
        {{"main", {"127.0.0.1", 1}}, true},
        {{"main", {"127.0.0.1", 2}}, false},
        {{"main", {"127.0.0.2", 1}}, false},
        {{"other", {"127.0.0.1", 1}}, false},
        {{"", {"", 0}}, false},
    };
    struct settings settings = {.resume_window_ms = 60000};
    struct setup setup = {.settings = &settings, .key = {.kind = GT_KEY_MASTER, .master = {1}}};

    assert_int_equal(targets_add(&setup.policy.relays, &relay), 0);
    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        struct session_info info = {.device = "dev", .operator_ = "alice", .relay = cases[i].relay};
        char path[] = "/tmp/test-late-byes.XXXXXX";
        struct late_byes late_byes;

        close(mkstemp(path));
        late_byes_init(&late_byes, ev_default_loop(0), on_change, NULL);
        late_byes_send(&late_byes, &setup, &info, GT_CODE_NEW_PROCESS, path);
        assert_int_equal(gt_list_is_empty(&late_byes.list), !cases[i].is_sent);
        assert_int_equal(access(path, F_OK) == 0, cases[i].is_sent);
        late_byes_deinit(&late_byes);
        unlink(path);
    }
    targets_deinit(&setup.policy.relays);
}

/* A device that got another name and a key of its own has none for the old name. */
static void test_late_bye_without_a_key_for_the_name_is_not_sent(void **state)
{
    static const struct target relay = {"main", {"127.0.0.1", 1}};
    struct session_info info = {.device = "dev", .operator_ = "alice", .relay = relay};
    struct settings settings = {.resume_window_ms = 60000};
    struct setup setup = {.settings = &settings, .key = {.kind = GT_KEY_DEVICE, .name = "new"}};
    struct late_byes late_byes;

    assert_int_equal(targets_add(&setup.policy.relays, &relay), 0);
    late_byes_init(&late_byes, ev_default_loop(0), on_change, NULL);
    late_byes_send(&late_byes, &setup, &info, GT_CODE_BYE, NULL);
    assert_true(gt_list_is_empty(&late_byes.list));
    targets_deinit(&setup.policy.relays);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_late_bye_goes_to_configured_relays_only),
        cmocka_unit_test(test_late_bye_without_a_key_for_the_name_is_not_sent),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
