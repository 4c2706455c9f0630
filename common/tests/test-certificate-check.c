/* SPDX-License-Identifier: ISC */
/* certificate-check.c: the facts of certificates, and the rows by date, name and authority. */
#include "gotthard/doctor/certificate-check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "identities.h"

#define NOW 1800000000 /* 2027-01-15 */
#define DAY 86400

static struct identity alice, other;
static struct gt_check_row last;

static void on_row(void *userdata, const struct gt_check_row *row)
{
    last = *row;
}

static int setup(void **state)
{
    identity_init(&alice, "P-256", "alice");
    identity_init(&other, "P-256", "other");
    return 0;
}

static int teardown(void **state)
{
    identity_deinit(&alice);
    identity_deinit(&other);
    return 0;
}

static struct gt_certificate_files files_of(const char *authorities, const char *certificate,
                                            const char *key)
{
    return (struct gt_certificate_files){.authorities = gt_span_text(authorities),
                                         .certificate = gt_span_text(certificate),
                                         .key = gt_span_text(key)};
}

static void test_facts_of_a_good_pair(void **state)
{
    struct gt_certificate_files files =
        files_of(alice.certificate_pem, alice.certificate_pem, alice.key_pem);
    struct gt_certificate_facts facts;
    char why[GT_CERTIFICATE_WHY];

    assert_int_equal(gt_certificate_facts_read(&files, &facts, why), 0);
    assert_string_equal(facts.name, "alice");
    assert_string_equal(facts.issuer, "alice");
    assert_true(facts.has_own_key && facts.is_authorized);
    assert_int_equal(facts.not_after - facts.not_before, 3600);
}

static void test_facts_of_another_key_and_authority(void **state)
{
    struct gt_certificate_files files =
        files_of(other.certificate_pem, alice.certificate_pem, other.key_pem);
    struct gt_certificate_facts facts;
    char why[GT_CERTIFICATE_WHY];

    assert_int_equal(gt_certificate_facts_read(&files, &facts, why), 0);
    assert_false(facts.has_own_key || facts.is_authorized);
}

static void test_facts_without_authorities(void **state)
{
    struct gt_certificate_files files = files_of("", alice.certificate_pem, alice.key_pem);
    struct gt_certificate_facts facts;
    char why[GT_CERTIFICATE_WHY];

    assert_int_equal(gt_certificate_facts_read(&files, &facts, why), 0);
    assert_false(facts.is_authorized);
}

static void test_facts_of_a_damaged_file_have_a_reason(void **state)
{
    struct gt_certificate_files files = files_of("", "no certificate", alice.key_pem);
    struct gt_certificate_facts facts = {.name = "untouched"};
    char why[GT_CERTIFICATE_WHY] = "";

    assert_int_equal(gt_certificate_facts_read(&files, &facts, why), 1);
    assert_true(*why != 0);
    assert_string_equal(facts.name, "untouched");
}

static const struct gt_certificate_words words = {
    .path = "/etc/gotthard/alice",
    .owner = "alice",
    .owner_setting = "client.name",
    .prefix = "operator ",
    .renewal = "renew it",
    .refused = {.id = 21, .exit = 77},
    .configuration = {.id = 10, .exit = 78},
};

static struct gt_certificate_facts facts_of(const char *name)
{
    struct gt_certificate_facts facts = {
        .issuer = "authority",
        .not_before = NOW - DAY,
        .not_after = NOW + 100 * DAY,
        .has_own_key = true,
        .is_authorized = true,
    };

    snprintf(facts.name, sizeof(facts.name), "%s", name);
    return facts;
}

static void assert_row(const struct gt_certificate_facts *facts, time_t now,
                       enum gt_check_result result, const char *text, const char *remedy)
{
    struct gt_checkup checkup = {.on_row = on_row};

    assert_int_equal(gt_certificate_add_row(now, facts, &words, &checkup),
                     result != GT_CHECK_FAILURE);
    assert_string_equal(last.name, "certificate");
    assert_int_equal(last.result, result);
    if (!strstr(last.text, text) || !strstr(last.remedy, remedy))
        fail_msg("%s; %s", last.text, last.remedy);
}

static void test_certificate_row_by_date(void **state)
{
    struct gt_certificate_facts facts = facts_of("alice");

    assert_row(&facts, NOW, GT_CHECK_OK, "alice, valid until 2027-04-25", "");
    assert_row(&facts, facts.not_before, GT_CHECK_OK, "", "");
    assert_row(&facts, facts.not_before - 1, GT_CHECK_FAILURE, "is not valid before 2027-01-14",
               "timedatectl set-ntp true");
    assert_row(&facts, facts.not_after - 30 * DAY, GT_CHECK_OK, "", "");
    assert_row(&facts, facts.not_after - 30 * DAY + 1, GT_CHECK_WARNING,
               "expires on 2027-04-25, in 29 days", "renew it");
    assert_row(&facts, facts.not_after, GT_CHECK_WARNING, "in less than a day", "renew it");
    assert_row(&facts, facts.not_after - DAY, GT_CHECK_WARNING, "in 1 day", "renew it");
    assert_string_equal(strchr(last.text, ',') + 1, " in 1 day");
    assert_row(&facts, facts.not_after + 1, GT_CHECK_FAILURE, "expired on 2027-04-25", "renew it");
    assert_int_equal(last.id, 21);
}

static void test_certificate_row_by_name(void **state)
{
    struct gt_certificate_facts facts = facts_of("operator alice");

    assert_row(&facts, NOW, GT_CHECK_OK, "operator alice", "");
    facts = facts_of("AWS IoT Certificate");
    assert_row(&facts, NOW, GT_CHECK_OK, "", "");
    facts = facts_of("operator bob");
    assert_row(&facts, NOW, GT_CHECK_WARNING, "is for the name \"operator bob\", not for alice",
               "set {client.name} to bob");
    facts.not_after = NOW + 20 * DAY; /* more urgent than the name */
    facts.not_before = NOW - 100 * DAY;
    assert_row(&facts, NOW, GT_CHECK_WARNING, "in 20 days", "renew it");
    facts = facts_of("alice");
    facts.not_after = NOW + 6 * DAY; /* of 7 days */
    assert_row(&facts, NOW, GT_CHECK_OK, "alice", "");
    facts = facts_of("bob");
    assert_row(&facts, NOW, GT_CHECK_WARNING, "", "set {client.name} to bob");
}

static void test_certificate_row_of_another_pair_or_authority(void **state)
{
    struct gt_certificate_facts facts = facts_of("alice");

    facts.is_authorized = false;
    assert_row(&facts, NOW, GT_CHECK_WARNING, "issued by authority, which is not in ca.crt", "");
    facts.has_own_key = false;
    assert_row(&facts, NOW, GT_CHECK_FAILURE, "private.key does not belong to cert.pem", "copy");
    assert_int_equal(last.exit, 78);
}

static void test_clock_row(void **state)
{
    struct gt_certificate_facts facts = facts_of("alice");
    struct gt_checkup checkup = {.on_row = on_row};

    assert_true(gt_clock_add_row(NOW, &facts, &words.refused, &checkup));
    assert_int_equal(last.result, GT_CHECK_OK);
    assert_true(gt_clock_add_row(facts.not_before - 1, &facts, &words.refused, &checkup));
    assert_int_equal(last.result, GT_CHECK_WARNING);
    assert_false(gt_clock_add_row(0, NULL, &words.refused, &checkup));
    assert_int_equal(last.result, GT_CHECK_FAILURE);
    assert_non_null(strstr(last.text, "today is 1970-01-01"));
    assert_non_null(strstr(last.remedy, "timedatectl"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_facts_of_a_good_pair),
        cmocka_unit_test(test_facts_of_another_key_and_authority),
        cmocka_unit_test(test_facts_without_authorities),
        cmocka_unit_test(test_facts_of_a_damaged_file_have_a_reason),
        cmocka_unit_test(test_certificate_row_by_date),
        cmocka_unit_test(test_certificate_row_by_name),
        cmocka_unit_test(test_certificate_row_of_another_pair_or_authority),
        cmocka_unit_test(test_clock_row),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
