/* SPDX-License-Identifier: ISC */
/* admission.c: keys, refused identities, and both after a change. */
#include "limits/admission.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

static const char iv[] = "000102030405060708090a0b0c0d0e0f";

static struct gt_key key_of(unsigned n)
{
    struct gt_key key;
    char text[2 * GT_KEY_SIZE + 1];

    snprintf(text, sizeof(text), "%064x", n);
    assert_int_equal(gt_key_parse(text, iv, &key), 0);
    return key;
}

static void add_key(struct admission *admission, unsigned n)
{
    struct gt_key key = key_of(n);

    assert_int_equal(admission_add_key(admission, &key), 0);
}

static void refuse(struct admission *admission, const char *text)
{
    const char *why;
    size_t line;

    assert_int_equal(refused_parse(strdup(text), &admission->refused, &line, &why), 0);
}

static bool find(const struct admission *admission, size_t which, const char *identity,
                 uint8_t *ret_psk, uint8_t *ret_key_id)
{
    return admission_find_psk(admission, which, gt_span_text(identity), ret_psk, ret_key_id);
}

static void test_admission_derives_the_psk_of_each_key(void **state)
{
    struct admission admission = {0};
    uint8_t psk[GT_KEY_SIZE], wanted[GT_KEY_SIZE], id[GT_KEY_ID_SIZE];

    add_key(&admission, 1);
    assert_false(find(&admission, ADMISSION_PREVIOUS, "g1:o:alice", psk, id));
    add_key(&admission, 2);
    for (unsigned n = 1; n <= 2; n++) {
        struct gt_key key = key_of(n);

        assert_true(find(&admission, n - 1, "g1:d:oli", psk, id));
        assert_int_equal(gt_key_client(&key, GT_ROLE_DEVICE, "oli", wanted), 0);
        assert_memory_equal(psk, wanted, GT_KEY_SIZE);
        assert_int_equal(gt_key_relay_id(&key, wanted), 0);
        assert_memory_equal(id, wanted, GT_KEY_ID_SIZE);
    }
    static const char *const malformed[] = {"", "g1:o:", "g1:x:a", "o:alice", "g1:o:a b", "g2:o:a"};
    for (size_t i = 0; i < GT_ARRAY_SIZE(malformed); i++)
        assert_false(find(&admission, ADMISSION_CURRENT, malformed[i], psk, id));
    admission_deinit(&admission);
    assert_false(find(&admission, ADMISSION_CURRENT, "g1:d:oli", psk, id));
}

static void test_admission_of_refused_identities(void **state)
{
    struct admission admission = {0};
    uint8_t psk[GT_KEY_SIZE], id[GT_KEY_ID_SIZE];

    add_key(&admission, 1);
    add_key(&admission, 2);
    assert_true(find(&admission, ADMISSION_CURRENT, "g1:o:mallory", psk, id));
    refuse(&admission, "o:mallory\n");
    for (size_t which = 0; which < ADMISSION_N_KEYS; which++)
        assert_false(find(&admission, which, "g1:o:mallory", psk, id));
    assert_int_equal(admission_check(&admission, "g1:o:mallory", id), GT_CODE_REFUSED);
    assert_true(find(&admission, ADMISSION_CURRENT, "g1:d:mallory", psk, id));
    assert_int_equal(admission_check(&admission, "g1:d:mallory", id), GT_CODE_NONE);
    admission_deinit(&admission);
}

/* Only a revocation counts: not that a name is in no entry. */
static void test_admission_of_revoked_identities(void **state)
{
    static const char text[] = "serial 1\nissued 2026-11-30T14:05:00Z\n"
                               "revoked o:mallory\nrevoked d:stolen-17\n";
    struct admission admission = {0};
    struct gt_access_list *list;
    uint8_t psk[GT_KEY_SIZE], id[GT_KEY_ID_SIZE];
    char why[GT_ACCESS_WHY];

    add_key(&admission, 1);
    add_key(&admission, 2);
    assert_int_equal(gt_access_list_parse(gt_span_text(text), &list, why), 0);
    admission.access = list;
    for (size_t which = 0; which < ADMISSION_N_KEYS; which++) {
        assert_false(find(&admission, which, "g1:o:mallory", psk, id));
        assert_false(find(&admission, which, "g1:d:stolen-17", psk, id));
        assert_true(find(&admission, which, "g1:d:mallory", psk, id));
        assert_true(find(&admission, which, "g1:o:enroll-1", psk, id));
        assert_int_equal(admission_check(&admission, "g1:o:alice", id), GT_CODE_NONE);
        assert_int_equal(admission_check(&admission, "g1:o:mallory", id), GT_CODE_REFUSED);
    }
    refuse(&admission, "o:alice\n");
    assert_int_equal(admission_check(&admission, "g1:o:alice", id), GT_CODE_REFUSED);
    admission_deinit(&admission);
    gt_access_list_free(list);
}

/* The name of a token has its expiry. Its key is right in each of these cases. */
static void test_admission_of_tokens(void **state)
{
    uint8_t psk[GT_KEY_SIZE], id[GT_KEY_ID_SIZE];
    struct admission admission = {0};
    char future[64], past[64], operator_[64];
    unsigned now = (unsigned)time(NULL);

    snprintf(future, sizeof(future), "g1:d:enroll-%08x-01234567", now + 100);
    snprintf(past, sizeof(past), "g1:d:enroll-%08x-01234567", now - 1);
    snprintf(operator_, sizeof(operator_), "g1:o:enroll-%08x-01234567", now - 1);
    add_key(&admission, 1);
    assert_true(find(&admission, ADMISSION_CURRENT, future, psk, id));
    assert_int_equal(admission_check(&admission, future, id), GT_CODE_NONE);
    assert_false(find(&admission, ADMISSION_CURRENT, past, psk, id));
    assert_int_equal(admission_check(&admission, past, id), GT_CODE_REFUSED);
    assert_false(find(&admission, ADMISSION_CURRENT, "g1:d:enroll-1", psk, id));
    assert_false(find(&admission, ADMISSION_CURRENT, "g1:d:enroll-fffffffff-01234567", psk, id));
    assert_true(find(&admission, ADMISSION_CURRENT, operator_, psk, id)); /* a name like others */
    refuse(&admission, future + strlen("g1:"));
    assert_false(find(&admission, ADMISSION_CURRENT, future, psk, id));
    assert_true(admission_token_left_ms(future + strlen("g1:d:")) > 90000);
    assert_int_equal(admission_token_left_ms(past + strlen("g1:d:")), 0);
    admission_deinit(&admission);
}

static void test_admission_after_a_change_of_keys(void **state)
{
    struct admission before = {0}, after = {0}, moved = {0};
    uint8_t psk[GT_KEY_SIZE], old[GT_KEY_ID_SIZE], new[GT_KEY_ID_SIZE];
    static const uint8_t none[GT_KEY_ID_SIZE];

    add_key(&before, 1);
    assert_true(find(&before, ADMISSION_CURRENT, "g1:o:alice", psk, old));
    add_key(&after, 2);
    assert_true(find(&after, ADMISSION_CURRENT, "g1:o:alice", psk, new));
    assert_int_equal(admission_check(&after, "g1:o:alice", old), GT_CODE_OLD_KEY);
    assert_int_equal(admission_check(&after, "g1:o:alice", none), GT_CODE_OLD_KEY);
    add_key(&after, 1);
    admission_move(&after, &moved);
    assert_int_equal(after.n_keys, 0);
    assert_int_equal(admission_check(&moved, "g1:o:alice", old), GT_CODE_NONE);
    assert_int_equal(admission_check(&moved, "g1:o:alice", new), GT_CODE_NONE);
    refuse(&moved, "o:alice\n");
    assert_int_equal(admission_check(&moved, "g1:o:alice", new), GT_CODE_REFUSED);
    admission_deinit(&moved);
    admission_deinit(&before);
}

static void test_admission_without_a_relay_key(void **state)
{
    struct admission admission = {0};
    struct gt_key key = key_of(1), device;
    char text[GT_KEY_TEXT_MAX];

    assert_int_equal(gt_key_format_device(&key, "oli", text), 0);
    assert_int_equal(gt_key_parse(text, NULL, &device), 0);
    assert_int_equal(admission_add_key(&admission, &device), -EINVAL);
    assert_int_equal(admission.n_keys, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_admission_derives_the_psk_of_each_key),
        cmocka_unit_test(test_admission_of_refused_identities),
        cmocka_unit_test(test_admission_of_revoked_identities),
        cmocka_unit_test(test_admission_of_tokens),
        cmocka_unit_test(test_admission_after_a_change_of_keys),
        cmocka_unit_test(test_admission_without_a_relay_key),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
