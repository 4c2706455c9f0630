/* SPDX-License-Identifier: ISC */
/* The text of the access list: its lines, its signature, and the entry that decides. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "gotthard/trust/access-list.h"

#define HEX   "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define OTHER "100102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define HEAD  "serial 42\nissued 2026-11-30T14:05:00Z\n"

static const uint8_t authority_key[GT_KEY_SIZE] = "the authority's private key ..";
static const uint8_t key[GT_KEY_SIZE] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10,
                                         11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
                                         22, 23, 24, 25, 26, 27, 28, 29, 30, 31};

static struct gt_access_list *parse(const char *text)
{
    struct gt_access_list *list = NULL;
    char why[GT_ACCESS_WHY] = "";

    if (gt_access_list_parse(gt_span_text(text), &list, why) != 0)
        fail_msg("%s: %s", text, why);
    return list;
}

static void test_parse_accepts_a_whole_list(void **state)
{
    struct gt_access_list *list = parse("# our fleet\n\nserial 42 # after bob\n"
                                        "issued 2026-11-30T14:05:00Z\r\n"
                                        "operator alice " HEX " role=admin\n"
                                        "operator bob " OTHER " services=ssh,web devices=plant-7-* "
                                        "until=2027-01-01\n"
                                        "device GatewayOli " HEX " until=2030-01-01 # roof\n"
                                        "revoked o:mallory\nrevoked d:stolen-17 # in Berne");

    assert_int_equal(gt_access_list_serial(list), 42);
    assert_int_equal(gt_access_list_issued(list), 1796047500);
    assert_int_equal(gt_access_list_count(list), 5);
    assert_true(gt_pin_is_admin(gt_access_list_operator(list, "alice", key, "any", 0)));
    assert_non_null(gt_access_list_device(list, "GatewayOli", key, 0));
    assert_null(gt_access_list_operator(list, "GatewayOli", key, "any", 0));
    assert_null(gt_access_list_device(list, "alice", key, 0));
    assert_true(gt_access_list_is_revoked(list, true, "mallory"));
    assert_true(gt_access_list_is_revoked(list, false, "stolen-17"));
    assert_false(gt_access_list_is_revoked(list, false, "mallory"));
    assert_false(gt_access_list_is_revoked(list, true, "alice"));
    gt_access_list_free(list);
}

static void test_parse_rejects_a_malformed_list_with_line_and_reason(void **state)
{
    static const struct {
        const char *text, *why;
    } rows[] = {
        {"", "line 0: the first lines must be serial and issued"},
        {"serial 42\n", "line 1: the first lines must be serial and issued"},
        {"operator alice " HEX "\n", "line 1: the first line must be serial and a number of at "
                                     "most 15 digits"},
        {"serial 0\n", "line 1: the first line must be serial and a number of at most 15 digits"},
        {"serial 1000000000000000\n",
         "line 1: the first line must be serial and a number of at most 15 digits"},
        {"serial 042\n", "line 1: the first line must be serial and a number of at most 15 digits"},
        {"serial 42 43\n",
         "line 1: the first line must be serial and a number of at most 15 digits"},
        {"serial 42\nissued 2026-02-30T14:05:00Z\n",
         "line 2: the second line must be issued and a time of the form YYYY-MM-DDTHH:MM:SSZ"},
        {"serial 42\nissued 2026-11-30 14:05\n",
         "line 2: the second line must be issued and a time of the form YYYY-MM-DDTHH:MM:SSZ"},
        {HEAD "serial 43\n", "line 3: a line must begin with operator, device or revoked"},
        {HEAD "group a\n", "line 3: a line must begin with operator, device or revoked"},
        {HEAD "operator alice\n",
         "line 3: the word after the name must be the SHA-256 of a key (64 hex digits, with or "
         "without colons, or base64)"},
        {HEAD "operator alice " HEX " role=device\n", "line 3: role must be operator or admin"},
        {HEAD "operator alice " HEX " from=office\n",
         "line 3: unknown word after the hash; use role=, services=, devices= or until="},
        {HEAD "operator alice " HEX " devices=a,,b\n",
         "line 3: devices must be a list of names separated by commas, in which * stands for any "
         "characters"},
        {HEAD "operator alice " HEX " devices=a/b\n",
         "line 3: devices must be a list of names separated by commas, in which * stands for any "
         "characters"},
        {HEAD "device gate " HEX " services=ssh\n",
         "line 3: unknown word after the hash; use until="},
        {HEAD "revoked mallory\n",
         "line 3: revoked must be followed by o:NAME, d:NAME or d:enroll-*, and nothing else"},
        {HEAD "revoked o:mallory d:x\n",
         "line 3: revoked must be followed by o:NAME, d:NAME or d:enroll-*, and nothing else"},
        {HEAD "revoked r:mallory\n",
         "line 3: revoked must be followed by o:NAME, d:NAME or d:enroll-*, and nothing else"},
        {HEAD "revoked o:enroll-*\n",
         "line 3: revoked must be followed by o:NAME, d:NAME or d:enroll-*, and nothing else"},
        {HEAD "revoked d:plant-*\n",
         "line 3: revoked must be followed by o:NAME, d:NAME or d:enroll-*, and nothing else"},
        {HEAD "device enroll-1 " HEX "\n",
         "line 3: no device may have a name that begins with enroll-"},
        {HEAD "operator alice " HEX "\noperator alice " HEX " services=ssh\n",
         "line 4: two entries have the same name, key and devices"},
        {HEAD "revoked o:\xc3\xa9\n", "line 3: control character or non-ASCII character"},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(rows); i++) {
        struct gt_access_list *list = NULL;
        char why[GT_ACCESS_WHY] = "";

        if (gt_access_list_parse(gt_span_text(rows[i].text), &list, why) != GT_ACCESS_E_SYNTAX ||
            strcmp(why, rows[i].why) != 0)
            fail_msg("%s: %s", rows[i].text, why);
        assert_null(list);
    }
}

static void test_pattern_matches_names(void **state)
{
    static const struct {
        const char *pattern, *name;
        bool is_match;
    } rows[] = {
        {"*", "", true},
        {"*", "a", true},
        {"a", "a", true},
        {"a", "A", false},
        {"a", "ab", false},
        {"plant-7-*", "plant-7-", true},
        {"plant-7-*", "plant-7-12", true},
        {"plant-7-*", "plant-71-2", false},
        {"*-roof", "plant-7-roof", true},
        {"*-roof", "roof", false},
        {"*-roof", "a-roof-b-roof", true},
        {"a*b*c", "abc", true},
        {"a*b*c", "a-b-b-c", true},
        {"a*b*c", "a-c-b", false},
        {"a**", "a", true},
        {"*a*a*a*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
         false},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(rows); i++)
        if (gt_pin_matches(rows[i].pattern, rows[i].name) != rows[i].is_match)
            fail_msg("%s %s", rows[i].pattern, rows[i].name);
}

static void test_first_entry_that_is_valid_for_the_device_decides(void **state)
{
    struct gt_access_list *list =
        parse(HEAD "operator bob " HEX " services=web devices=office-*,lab until=2026-12-31\n"
                   "operator bob " HEX " services=ssh devices=plant-*\n"
                   "operator bob " HEX " services=sftp\n");
    const time_t last = 1798761599; /* 2026-12-31 23:59:59 */

    assert_true(
        gt_pin_allows_service(gt_access_list_operator(list, "bob", key, "lab", last), "web"));
    assert_true(
        gt_pin_allows_service(gt_access_list_operator(list, "bob", key, "lab", last + 1), "sftp"));
    assert_true(
        gt_pin_allows_service(gt_access_list_operator(list, "bob", key, "plant-7", last), "ssh"));
    assert_false(
        gt_pin_allows_service(gt_access_list_operator(list, "bob", key, "plant-7", last), "web"));
    assert_true(
        gt_pin_allows_service(gt_access_list_operator(list, "bob", key, "other", last), "sftp"));
    assert_null(gt_access_list_operator(list, "bo", key, "lab", last));
    assert_null(gt_access_list_operator(list, "bob", authority_key, "lab", last));
    gt_access_list_free(list);
}

static void test_revoked_name_has_no_entry(void **state)
{
    struct gt_access_list *list = parse(HEAD "operator bob " HEX "\nrevoked o:bob\n"
                                             "device bob " HEX "\n");

    assert_null(gt_access_list_operator(list, "bob", key, "any", 0));
    assert_non_null(gt_access_list_device(list, "bob", key, 0));
    gt_access_list_free(list);
}

static void test_names_of_enrolments_are_revoked_together(void **state)
{
    struct gt_access_list *list = parse(HEAD "revoked d:enroll-*\nrevoked o:bob\n");

    assert_true(gt_access_list_is_revoked(list, false, "enroll-6b49d200-627a14c6"));
    assert_true(gt_access_list_is_revoked(list, false, "enroll-"));
    assert_false(gt_access_list_is_revoked(list, false, "enroll"));
    assert_false(gt_access_list_is_revoked(list, false, "enrolled"));
    assert_false(gt_access_list_is_revoked(list, true, "enroll-6b49d200-627a14c6"));
    assert_true(gt_access_list_is_revoked(list, true, "bob"));
    assert_int_equal(gt_access_list_count(list), 2);
    gt_access_list_free(list);
    list = parse(HEAD "revoked d:enroll-1\n");
    assert_true(gt_access_list_is_revoked(list, false, "enroll-1"));
    assert_false(gt_access_list_is_revoked(list, false, "enroll-2"));
    gt_access_list_free(list);
}

/* The clock of a device that starts without a battery is in the past. */
static void test_expiry_is_judged_by_no_earlier_time_than_the_list(void **state)
{
    struct gt_access_list *list = parse(HEAD "operator bob " HEX " until=2026-11-29\n");

    assert_null(gt_access_list_operator(list, "bob", key, "any", 0));
    gt_access_list_free(list);
}

static void test_age_of_a_list(void **state)
{
    struct gt_access_list *list = parse(HEAD);
    time_t issued = gt_access_list_issued(list);

    assert_false(gt_access_list_is_too_old(list, issued + 3600, 3600));
    assert_true(gt_access_list_is_too_old(list, issued + 3601, 3600));
    assert_false(gt_access_list_is_too_old(list, issued - 3601, 3600));
    assert_false(gt_access_list_is_too_old(list, issued + 1000000, 0));
    gt_access_list_free(list);
}

static void test_signed_list_opens_unless_a_byte_differs(void **state)
{
    uint8_t authority[GT_KEY_SIZE], other[GT_KEY_SIZE];
    struct gt_access_list *list = NULL;
    char why[GT_ACCESS_WHY] = "", *text = NULL;
    size_t n = 0;

    assert_int_equal(gt_ed25519_public(authority_key, authority), 0);
    assert_int_equal(gt_ed25519_public(key, other), 0);
    assert_int_equal(
        gt_access_list_sign(gt_span_text(HEAD "revoked o:bob\n"), authority_key, &text, &n, why),
        0);
    assert_int_equal(gt_access_list_open(gt_span(text, n), authority, &list, why), 0);
    assert_int_equal(gt_access_list_serial(list), 42);
    list = gt_access_list_free(list);
    assert_int_equal(gt_access_list_open(gt_span(text, n), other, &list, why),
                     GT_ACCESS_E_SIGNATURE);
    for (size_t i = 0; i < n; i++) {
        text[i] ^= 1;
        assert_int_equal(gt_access_list_open(gt_span(text, n), authority, &list, why),
                         GT_ACCESS_E_SIGNATURE);
        text[i] ^= 1;
        assert_int_equal(gt_access_list_open(gt_span(text, i), authority, &list, why),
                         GT_ACCESS_E_SIGNATURE);
    }
    free(text);
}

static void test_sign_refuses_what_receivers_would_reject(void **state)
{
    char why[GT_ACCESS_WHY] = "", *text = NULL;
    size_t n = 0;

    assert_int_equal(gt_access_list_sign(gt_span_text(HEAD "x\n"), authority_key, &text, &n, why),
                     GT_ACCESS_E_SYNTAX);
    assert_int_equal(
        gt_access_list_sign(gt_span_text(HEAD "revoked o:bob"), authority_key, &text, &n, why),
        GT_ACCESS_E_SYNTAX);
    assert_string_equal(why, "the last line does not end with a newline");
}

/* Of the largest list each entry is found, and one entry more is rejected. */
static void test_list_holds_the_maximum_of_entries(void **state)
{
    size_t cap = 1024 * 1024, n = (size_t)snprintf(NULL, 0, HEAD);
    char *text = malloc(cap), why[GT_ACCESS_WHY], name[24];
    struct gt_access_list *list = NULL;

    assert_non_null(text);
    memcpy(text, HEAD, n + 1);
    for (int i = 0; i < GT_ACCESS_ENTRIES_MAX; i++)
        n += (size_t)snprintf(text + n, cap - n, "operator o%d %s\n", i * 7919 % 10007, HEX);
    assert_int_equal(gt_access_list_parse(gt_span(text, n), &list, why), 0);
    assert_int_equal(gt_access_list_count(list), GT_ACCESS_ENTRIES_MAX);
    for (int i = 0; i < GT_ACCESS_ENTRIES_MAX; i++) {
        snprintf(name, sizeof(name), "o%d", i * 7919 % 10007);
        assert_non_null(gt_access_list_operator(list, name, key, "any", 0));
    }
    gt_access_list_free(list);
    n += (size_t)snprintf(text + n, cap - n, "revoked o:x\n");
    assert_int_equal(gt_access_list_parse(gt_span(text, n), &list, why), GT_ACCESS_E_SYNTAX);
    assert_string_equal(why, "line 10003: too many entries");
    free(text);
}

static void test_authority_texts(void **state)
{
    char text[GT_AUTHORITY_TEXT_MAX];
    uint8_t parsed[GT_KEY_SIZE];
    const char *why = "";

    gt_authority_format_public(key, text);
    assert_string_equal(text, "gk1a.AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8");
    assert_int_equal(gt_authority_parse_public(text, parsed, &why), 0);
    assert_memory_equal(parsed, key, sizeof(key));
    assert_int_equal(gt_authority_parse_private(text, parsed, &why), GT_AUTHORITY_E_SYNTAX);
    gt_authority_format_private(key, text);
    assert_int_equal(gt_authority_parse_private(text, parsed, &why), 0);
    assert_int_equal(gt_authority_parse_public(text, parsed, &why), GT_AUTHORITY_E_SYNTAX);
    assert_non_null(strstr(why, "private key"));
    text[strlen(text) - 1] = 0;
    assert_int_equal(gt_authority_parse_private(text, parsed, &why), GT_AUTHORITY_E_SYNTAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse_accepts_a_whole_list),
        cmocka_unit_test(test_parse_rejects_a_malformed_list_with_line_and_reason),
        cmocka_unit_test(test_pattern_matches_names),
        cmocka_unit_test(test_first_entry_that_is_valid_for_the_device_decides),
        cmocka_unit_test(test_revoked_name_has_no_entry),
        cmocka_unit_test(test_names_of_enrolments_are_revoked_together),
        cmocka_unit_test(test_expiry_is_judged_by_no_earlier_time_than_the_list),
        cmocka_unit_test(test_age_of_a_list),
        cmocka_unit_test(test_signed_list_opens_unless_a_byte_differs),
        cmocka_unit_test(test_sign_refuses_what_receivers_would_reject),
        cmocka_unit_test(test_list_holds_the_maximum_of_entries),
        cmocka_unit_test(test_authority_texts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
