/* SPDX-License-Identifier: ISC */
/* Changes of the text of an access list. */
#include "access-text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define KEY_1 "1111111111111111111111111111111111111111111111111111111111111111"
#define KEY_2 "2222222222222222222222222222222222222222222222222222222222222222"
#define ALICE "operator alice " KEY_1 " role=admin\n"
#define PUMP  "device pump " KEY_2 "\n"

static void test_body_is_without_head_and_signature(void **state)
{
    static const struct {
        const char *text, *body;
    } rows[] = {
        {"", ""},
        {"serial 4\nissued 2026-11-30T14:05:00Z\n" ALICE "signature AAAA\n", ALICE},
        {"# ours\n\nserial 4\r\n  issued x\n" ALICE "\n# end", "# ours\n\n" ALICE "\n# end\n"},
        {"revoked o:serial", "revoked o:serial\n"},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(rows); i++) {
        char *body = access_text_body(rows[i].text);

        assert_string_equal(body, rows[i].body);
        free(body);
    }
}

static void test_head_has_serial_and_utc_time(void **state)
{
    char *text = access_text_with_head(ALICE, 999999999999999, 1796047500);

    assert_string_equal(text, "serial 999999999999999\nissued 2026-11-30T14:05:00Z\n" ALICE);
    free(text);
}

static const struct {
    const char *body;
    bool is_operator;
    const char *words, *result, *why; /* ->result NULL: refused, with ->why in the reason */
} additions[] = {
    {"", true, "alice " KEY_1 " role=admin", ALICE, NULL},
    {"# without an end", false, "pump " KEY_2, "# without an end\n" PUMP, NULL},
    {ALICE, true, "alice " KEY_2 " services=ssh", ALICE "operator alice " KEY_2 " services=ssh\n",
     NULL},
    {"revoked d:bob\n", true, "bob " KEY_1, "revoked d:bob\noperator bob " KEY_1 "\n", NULL},
    {"revoked o:bob2\n", true, "bob " KEY_1, "revoked o:bob2\noperator bob " KEY_1 "\n", NULL},
    {"revoked o:bob\n", true, "bob " KEY_1, NULL, "bob is revoked"},
    {"revoked  o:bob # left\n", true, "bob " KEY_1, NULL, "must not be used again"},
    {ALICE, false, "pump " KEY_1, NULL, "this is the key of the operator alice"},
    {PUMP, true, "bob " KEY_2, NULL, "this is the key of the device pump"},
    {"", true, "bob", NULL, ""},
    {"", true, "bob 1234", NULL, ""},
    {"", true, "bob " KEY_1 " rights=all", NULL, "use role=, services=, devices= or until="},
    {"", false, "pump " KEY_1 " services=ssh", NULL, "a device may have until="},
};

static void test_add_appends_an_entry_or_refuses(void **state)
{
    for (size_t i = 0; i < GT_ARRAY_SIZE(additions); i++) {
        char *body = NULL, why[ACCESS_TEXT_WHY] = "";
        int r = access_text_add(additions[i].body, additions[i].is_operator, additions[i].words,
                                &body, why);

        assert_int_equal(r, additions[i].result ? 0 : ACCESS_TEXT_E_REFUSED);
        if (additions[i].result)
            assert_string_equal(body, additions[i].result);
        else
            assert_non_null(strstr(why, additions[i].why));
        free(body);
    }
}

static const struct {
    const char *body;
    bool is_operator;
    const char *name, *result;
    size_t n;
} revocations[] = {
    {ALICE "# kept\n" PUMP, true, "alice", "# kept\n" PUMP "revoked o:alice\n", 1},
    {ALICE "operator alice " KEY_2 "\n" PUMP, true, "alice", PUMP "revoked o:alice\n", 2},
    {ALICE PUMP, false, "pump", ALICE "revoked d:pump\n", 1},
    {ALICE, false, "alice", ALICE "revoked d:alice\n", 0},
    {ALICE, true, "alic", ALICE "revoked o:alic\n", 0},
    {"revoked o:alice\n" ALICE, true, "alice", "revoked o:alice\n", 1},
    {"", true, "mallory", "revoked o:mallory\n", 0},
};

static void test_revoke_leaves_a_line_for_the_name(void **state)
{
    for (size_t i = 0; i < GT_ARRAY_SIZE(revocations); i++) {
        const char *name = revocations[i].name;
        bool is_operator = revocations[i].is_operator;
        char *body = NULL;
        size_t n = 99;

        assert_int_equal(access_text_revoke(revocations[i].body, is_operator, name, &body, &n), 0);
        assert_string_equal(body, revocations[i].result);
        assert_int_equal(n, revocations[i].n);
        assert_true(access_text_is_revoked(body, is_operator, name));
        assert_false(access_text_is_revoked(body, !is_operator, name));
        free(body);
    }
}

static void test_lost_names_are_found(void **state)
{
    static const struct {
        const char *before, *after, *lost; /* NULL: none */
    } rows[] = {
        {"", ALICE, NULL},
        {ALICE PUMP, PUMP ALICE, NULL},
        {ALICE, "operator alice " KEY_2 "\n", NULL},
        {ALICE, "revoked o:alice\n", NULL},
        {ALICE PUMP, PUMP, "operator alice has neither"},
        {PUMP, "operator pump " KEY_1 "\n", "device pump has neither"},
        {ALICE, "# " ALICE, "operator alice has neither"},
        {ALICE, "revoked d:alice\n", "operator alice has neither"},
        {"revoked o:bob\n", "", "operator bob was revoked and is not any more"},
        {"revoked o:bob\n", "operator bob " KEY_1 "\n", "operator bob was revoked"},
        {"revoked o:bob\n", "operator bob " KEY_1 "\nrevoked o:bob\n", NULL},
        {"revoked o:bob\n", "revoked o:bob\noperator bob " KEY_1 "\n", NULL},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(rows); i++) {
        char why[ACCESS_TEXT_WHY] = "";

        assert_int_equal(access_text_loses(rows[i].before, rows[i].after, why),
                         rows[i].lost != NULL);
        if (rows[i].lost)
            assert_non_null(strstr(why, rows[i].lost));
    }
}

static void append_name(void *userdata, const char *name)
{
    strcat(userdata, name);
    strcat(userdata, " ");
}

static void test_each_device_names_entries_of_devices_only(void **state)
{
    char names[64] = "";

    access_text_each_device(ALICE PUMP "revoked d:lost\ndevice b.2 " KEY_1, append_name, names);
    assert_string_equal(names, "pump b.2 ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_body_is_without_head_and_signature),
        cmocka_unit_test(test_head_has_serial_and_utc_time),
        cmocka_unit_test(test_add_appends_an_entry_or_refuses),
        cmocka_unit_test(test_revoke_leaves_a_line_for_the_name),
        cmocka_unit_test(test_lost_names_are_found),
        cmocka_unit_test(test_each_device_names_entries_of_devices_only),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
