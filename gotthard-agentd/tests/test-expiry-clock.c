/* SPDX-License-Identifier: ISC */
/* expiry-clock.c with a wall clock that is set forward and back, and over restarts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "expiry-clock.h"

#define Y2026 INT64_C(1767225600)
#define DAY   INT64_C(86400)

static char folder[] = "/tmp/test-expiry-clock-XXXXXX";
static char path[sizeof(folder) + 8];
static struct expiry_clock clock_;
static uint64_t now_ms;

static void start(time_t wall)
{
    expiry_clock_deinit(&clock_, now_ms);
    expiry_clock_init(&clock_, folder, wall, now_ms);
}

/* Lets @seconds pass with a wall clock that begins at @wall. Returns the time of expiry at the end.
 */
static time_t run(time_t wall, time_t seconds, bool is_synchronized)
{
    for (time_t i = 0; i <= seconds; i += 30) {
        expiry_clock_observe(&clock_, wall + i, now_ms, is_synchronized);
        now_ms += 30000;
    }
    return expiry_clock_time(&clock_, wall + seconds, now_ms - 30000);
}

static int setup(void **state)
{
    clock_ = (struct expiry_clock){0};
    now_ms = 5000;
    unlink(path);
    return 0;
}

static int teardown(void **state)
{
    expiry_clock_deinit(&clock_, now_ms);
    return unlink(path) && errno != ENOENT;
}

static void test_clock_set_back_is_ignored(void **state)
{
    struct stat st;

    start(Y2026);
    assert_int_equal(run(Y2026, 1200, true), Y2026 + 1200);
    /* set back while the agent runs: time continues from the floor */
    assert_in_range(run(Y2026 - 400 * DAY, 3600, true), Y2026 + 4700, Y2026 + 4900);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    /* a boot in 1970 */
    start(0);
    assert_in_range(run(0, 60, false), Y2026 + 4700, Y2026 + 5000);
    /* and the right time again */
    assert_int_equal(run(Y2026 + DAY, 60, true), Y2026 + DAY + 60);
}

static void test_wrong_future_seen_once_locks_nothing(void **state)
{
    start(Y2026);
    assert_int_equal(run(Y2026, 1200, true), Y2026 + 1200);
    assert_int_equal(run(Y2026 + 4000 * DAY, 570, true), Y2026 + 4000 * DAY + 570);
    assert_in_range(run(Y2026 + 1800, 60, true), Y2026 + 1800, Y2026 + 1900);
    /* not synchronized: for less than a day */
    assert_int_equal(run(Y2026 + 4000 * DAY, DAY - 60, false), Y2026 + 4001 * DAY - 60);
    start(Y2026 + 2 * DAY);
    assert_in_range(run(Y2026 + 2 * DAY, 60, true), Y2026 + 2 * DAY, Y2026 + 2 * DAY + 100);
}

static void test_clock_without_synchronization_counts_after_a_day(void **state)
{
    start(Y2026);
    (void)run(Y2026, DAY + 60, false);
    start(0);
    assert_in_range(expiry_clock_time(&clock_, 0, now_ms), Y2026 + DAY - 60, Y2026 + DAY + 120);
}

static void test_damaged_file_is_no_floor(void **state)
{
    static const char *const texts[] = {"", "nonsense", "-5\n", "99999999999999999999999999",
                                        "1 2"};

    for (size_t i = 0; i < GT_ARRAY_SIZE(texts); i++) {
        FILE *file = fopen(path, "w");

        assert_non_null(file);
        fputs(texts[i], file);
        fclose(file);
        start(Y2026);
        assert_int_equal(expiry_clock_time(&clock_, Y2026, now_ms), Y2026);
    }
}

/* While the folder could be written by others. */
static void test_planted_file_neither_blocks_nor_counts(void **state)
{
    char temporary[sizeof(path) + 4];

    snprintf(temporary, sizeof(temporary), "%s.new", path);
    assert_int_equal(mkfifo(path, 0600), 0);
    start(Y2026);
    assert_int_equal(expiry_clock_time(&clock_, Y2026, now_ms), Y2026);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(temporary, 0600), 0);
    assert_int_equal(run(Y2026, 1200, true), Y2026 + 1200);
    start(0);
    assert_true(expiry_clock_time(&clock_, 0, now_ms) > Y2026);
    assert_int_equal(chmod(path, 0666), 0);
    start(0);
    assert_int_equal(expiry_clock_time(&clock_, 0, now_ms), 0);
}

static void test_clock_without_a_folder_is_kept_in_memory(void **state)
{
    expiry_clock_init(&clock_, NULL, Y2026, now_ms);
    (void)run(Y2026, 1200, true);
    assert_in_range(expiry_clock_time(&clock_, 0, now_ms), Y2026 + 1200, Y2026 + 1300);
}

/* An access list was issued: the wall clock is held back, as by a hostile NTP server. */
static void test_time_that_the_authority_has_signed_runs_on(void **state)
{
    time_t back = Y2026 - 300 * DAY;

    start(back);
    expiry_clock_raise(&clock_, Y2026, now_ms);
    assert_int_equal(expiry_clock_time(&clock_, back, now_ms), Y2026);
    now_ms += 40 * DAY * 1000; /* the device sleeps meanwhile */
    assert_int_equal(expiry_clock_time(&clock_, back, now_ms), Y2026 + 40 * DAY);
    assert_int_equal(expiry_clock_time(&clock_, Y2026 + 90 * DAY, now_ms), Y2026 + 90 * DAY);
}

/* Older lists, which a broker has withheld, are issued before the trusted time. */
static void test_signed_time_never_goes_back(void **state)
{
    start(0);
    expiry_clock_raise(&clock_, Y2026, now_ms);
    now_ms += 10 * DAY * 1000;
    expiry_clock_raise(&clock_, Y2026 + 5 * DAY, now_ms);
    expiry_clock_raise(&clock_, 0, now_ms);
    assert_int_equal(expiry_clock_time(&clock_, 0, now_ms), Y2026 + 10 * DAY);
    expiry_clock_raise(&clock_, Y2026 + 11 * DAY, now_ms);
    assert_int_equal(expiry_clock_time(&clock_, 0, now_ms), Y2026 + 11 * DAY);
}

/* Only the time that the device was switched off is not counted, and after a crash 15 minutes. */
static void test_signed_time_is_kept_over_restarts(void **state)
{
    start(0);
    expiry_clock_raise(&clock_, Y2026, now_ms);
    now_ms += 600 * 1000;
    start(0);
    assert_int_equal(expiry_clock_time(&clock_, 0, now_ms), Y2026 + 600);
    now_ms = 7; /* another boot */
    clock_.path = (free(clock_.path), NULL);
    expiry_clock_init(&clock_, folder, 0, now_ms);
    assert_int_equal(expiry_clock_time(&clock_, 0, now_ms), Y2026 + 600);
    (void)run(0, 1200, false);
    clock_.path = (free(clock_.path), NULL); /* it is killed */
    expiry_clock_init(&clock_, folder, 0, now_ms);
    assert_in_range(expiry_clock_time(&clock_, 0, now_ms), Y2026 + 600 + 900, Y2026 + 600 + 1230);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_clock_set_back_is_ignored),
        TEST(test_wrong_future_seen_once_locks_nothing),
        TEST(test_clock_without_synchronization_counts_after_a_day),
        TEST(test_damaged_file_is_no_floor),
        TEST(test_time_that_the_authority_has_signed_runs_on),
        TEST(test_signed_time_never_goes_back),
        TEST(test_signed_time_is_kept_over_restarts),
        TEST(test_planted_file_neither_blocks_nor_counts),
        TEST(test_clock_without_a_folder_is_kept_in_memory),
    };
    if (!mkdtemp(folder))
        return 1;
    snprintf(path, sizeof(path), "%s/clock", folder);
    int r = cmocka_run_group_tests(tests, NULL, NULL);
    rmdir(folder);
    return r;
}
