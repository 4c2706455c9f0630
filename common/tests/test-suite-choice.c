/* SPDX-License-Identifier: ISC */
/*
 * suite-choice.c: the choice by times that the test makes, its end on slow machines, and the real
 * measurement.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gotthard/tls/suite-choice.h"

#define NS_PER_BYTE (GT_SUITE_BLOCK * 1e-9)

/* A machine with these times per record. */
struct machine {
    double aes, chacha20;
    double first;  /* added to the first record of each suite */
    int fails_at;  /* the number of the record that fails, from 1 on; 0: none */
    bool is_noisy; /* all records but one take ten times as long */
    int n_aes, n_chacha20;
    double total;
};

static double time_record(void *userdata, enum gt_record_suite suite)
{
    struct machine *machine = userdata;
    bool is_aes = suite == GT_RECORD_AES128;
    int n = is_aes ? ++machine->n_aes : ++machine->n_chacha20;
    double took = is_aes ? machine->aes : machine->chacha20;

    if (machine->n_aes + machine->n_chacha20 == machine->fails_at)
        return -1;
    if (machine->is_noisy && n != (is_aes ? 3 : 10))
        took *= 10;
    if (n == 1)
        took += machine->first;
    machine->total += took;
    return took;
}

static enum gt_record_suite choice_of(struct machine machine)
{
    return gt_suite_choose(time_record, &machine);
}

static void test_machine_without_aes_instructions_prefers_chacha20(void **state)
{
    assert_int_equal(
        choice_of((struct machine){.aes = 28 * NS_PER_BYTE, .chacha20 = 11 * NS_PER_BYTE}),
        GT_RECORD_CHACHA20);
    assert_int_equal(
        choice_of((struct machine){.aes = 11 * NS_PER_BYTE, .chacha20 = 28 * NS_PER_BYTE}),
        GT_RECORD_AES128);
}

/* OpenSSL 3.0 on a processor with AVX-512. */
static void test_fast_machine_leaves_choice_to_other_end(void **state)
{
    assert_int_equal(
        choice_of((struct machine){.aes = .32 * NS_PER_BYTE, .chacha20 = .28 * NS_PER_BYTE}),
        GT_RECORD_AES128);
    assert_int_equal(
        choice_of((struct machine){.aes = 2.3 * NS_PER_BYTE, .chacha20 = 1.4 * NS_PER_BYTE}),
        GT_RECORD_AES128);
    assert_int_equal(
        choice_of((struct machine){.aes = 2.5 * NS_PER_BYTE, .chacha20 = 1.4 * NS_PER_BYTE}),
        GT_RECORD_CHACHA20);
}

static void test_interrupted_records_do_not_count(void **state)
{
    struct machine machine = {
        .aes = 3 * NS_PER_BYTE, .chacha20 = 1.5 * NS_PER_BYTE, .first = 1e-3, .is_noisy = true};

    assert_int_equal(choice_of(machine), GT_RECORD_CHACHA20);
    machine.aes = 2 * NS_PER_BYTE;
    assert_int_equal(choice_of(machine), GT_RECORD_AES128);
}

/* The first record waits longer than the measurement may take. */
static void test_long_interruption_does_not_decide(void **state)
{
    struct machine machine = {
        .aes = 3 * NS_PER_BYTE, .chacha20 = 1.5 * NS_PER_BYTE, .first = 20e-3};

    assert_int_equal(choice_of(machine), GT_RECORD_CHACHA20);
    machine.aes = 2 * NS_PER_BYTE;
    assert_int_equal(choice_of(machine), GT_RECORD_AES128);
}

static void test_measurement_is_short_on_slow_machine(void **state)
{
    static const double ns_per_byte[] = {.1, 1, 10, 30, 100, 400};

    for (size_t i = 0; i < GT_ARRAY_SIZE(ns_per_byte); i++) {
        struct machine machine = {.aes = ns_per_byte[i] * NS_PER_BYTE,
                                  .chacha20 = ns_per_byte[i] / 2 * NS_PER_BYTE};

        enum gt_record_suite suite = gt_suite_choose(time_record, &machine);
        assert_int_equal(suite, ns_per_byte[i] > 2 ? GT_RECORD_CHACHA20 : GT_RECORD_AES128);
        assert_true(machine.n_aes >= 3 && machine.n_aes <= 16);
        assert_int_equal(machine.n_aes, machine.n_chacha20);
        assert_true(machine.total <= 5e-3);
    }
}

static void test_failed_measurement_means_aes(void **state)
{
    for (int at = 1; at <= 5; at++)
        assert_int_equal(choice_of((struct machine){.aes = 30 * NS_PER_BYTE,
                                                    .chacha20 = 10 * NS_PER_BYTE,
                                                    .fails_at = at}),
                         GT_RECORD_AES128);
}

static void test_real_measurement_keeps_its_result(void **state)
{
    enum gt_record_suite suite = gt_suite_preferred();

    assert_true(suite == GT_RECORD_AES128 || suite == GT_RECORD_CHACHA20);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(gt_suite_preferred(), suite);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_machine_without_aes_instructions_prefers_chacha20),
        cmocka_unit_test(test_fast_machine_leaves_choice_to_other_end),
        cmocka_unit_test(test_interrupted_records_do_not_count),
        cmocka_unit_test(test_long_interruption_does_not_decide),
        cmocka_unit_test(test_measurement_is_short_on_slow_machine),
        cmocka_unit_test(test_failed_measurement_means_aes),
        cmocka_unit_test(test_real_measurement_keeps_its_result),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
