/* SPDX-License-Identifier: ISC */
/* holder-path.c: the hash of all that decides about trust changes with each of its parts. */
#include "holder-path.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#define PIN "dev 0000000000000000000000000000000000000000000000000000000000000001 role=device"

static struct {
    char folder[64], pins[96], certificate[96];
    uint8_t check[GT_KEY_SIZE];
} f;

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static int set_up(void **state)
{
    memset(&f, 0, sizeof(f));
    strcpy(f.folder, "/tmp/gotthard-path-XXXXXX");
    assert_non_null(mkdtemp(f.folder));
    snprintf(f.pins, sizeof(f.pins), "%s/devices.pins", f.folder);
    snprintf(f.certificate, sizeof(f.certificate), "%s/cert.pem", f.folder);
    setenv("GOTTHARD_CONFIG_DIR", f.folder, 1);
    return 0;
}

static int tear_down(void **state)
{
    unlink(f.pins);
    unlink(f.certificate);
    return rmdir(f.folder);
}

static void check_with(const char *policy, const char *pins, uint8_t ret[static GT_KEY_SIZE])
{
    const char *sets[] = {"cert-path", f.folder};
    const struct gt_config_args args = {.sets = sets, .n_sets = 1};
    char error[GT_CONFIG_ERROR_MAX];
    struct gt_config *config;

    setenv("GOTTHARD_TRUST_POLICY", policy, 1);
    unsetenv("GOTTHARD_TRUST_PINS");
    if (pins)
        setenv("GOTTHARD_TRUST_PINS", pins, 1);
    if (gt_config_load(settings_program(), &args, &config, error) != 0)
        fail_msg("%s", error);
    assert_int_equal(holder_check(config, ret), 0);
    gt_config_free(config);
}

/* Returns true if the hash differs from that of the last call. */
static bool has_changed_with(const char *policy, const char *pins)
{
    uint8_t before[GT_KEY_SIZE];

    memcpy(before, f.check, sizeof(before));
    check_with(policy, pins, f.check);
    return memcmp(before, f.check, sizeof(before)) != 0;
}

static bool has_changed(void)
{
    return has_changed_with("auto", NULL);
}

static void test_check_changes_with_the_pins(void **state)
{
    assert_true(has_changed());
    assert_false(has_changed());
    write_file(f.pins, "");
    assert_true(has_changed());
    assert_false(has_changed());
    write_file(f.pins, PIN "\n");
    assert_true(has_changed());
    write_file(f.pins, "#" PIN "\n");
    assert_true(has_changed());
    write_file(f.pins, "no pin\n");
    assert_true(has_changed());
    assert_int_equal(chmod(f.pins, 0666), 0); /* not accepted any more */
    assert_true(has_changed());
    assert_false(has_changed());
    assert_int_equal(unlink(f.pins), 0);
    assert_true(has_changed());
}

static void test_check_changes_with_the_path_of_the_pins(void **state)
{
    write_file(f.pins, PIN "\n");
    assert_true(has_changed());
    assert_true(has_changed_with("auto", f.pins)); /* its absence would be a failure now */
    assert_true(has_changed_with("auto", "/nonexistent/devices.pins"));
}

/* The time of the file is a lower limit of the clock. */
static void test_check_changes_with_the_expiry_of_a_pin(void **state)
{
    const struct timespec after[] = {{.tv_sec = 1893542400}, {.tv_sec = 1893542400}}; /* 2030 */

    write_file(f.pins, PIN " until=2029-12-31\n");
    assert_true(has_changed());
    assert_false(has_changed());
    assert_int_equal(utimensat(AT_FDCWD, f.pins, after, 0), 0);
    assert_true(has_changed());
    assert_false(has_changed());
}

static void test_check_without_pins_ignores_their_file(void **state)
{
    assert_true(has_changed_with("psk", NULL));
    write_file(f.pins, PIN "\n");
    assert_false(has_changed_with("psk", NULL));
}

static void test_check_changes_with_the_certificate(void **state)
{
    assert_true(has_changed());
    write_file(f.certificate, "one");
    assert_true(has_changed());
    write_file(f.certificate, "two");
    assert_true(has_changed());
    assert_false(has_changed());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_check_changes_with_the_pins, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_check_changes_with_the_path_of_the_pins, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_check_changes_with_the_expiry_of_a_pin, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_check_without_pins_ignores_their_file, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_check_changes_with_the_certificate, set_up, tear_down),
    };

    umask(022); /* a file that a group may write is refused */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
