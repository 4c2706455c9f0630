/* SPDX-License-Identifier: ISC */
/* epoch-memory.c: which epochs are found, and that the file is bounded. */
#include "epoch-memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#define KEY "1011121314151617" HEX "18191a1b1c1d1e1f"
#define IV  "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf"
#define HEX "000102030405060708090a0b0c0d0e0f"

static const uint8_t epoch[GT_EPOCH_SIZE] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

static struct {
    char base[64], folder[96];
    struct settings settings;
    struct identity identity;
    struct epoch_memory memory;
} f;

static int set_up(void **state)
{
    memset(&f, 0, sizeof(f));
    strcpy(f.base, "/tmp/gotthard-epochs-XXXXXX");
    assert_non_null(mkdtemp(f.base));
    snprintf(f.folder, sizeof(f.folder), "%s/gotthard", f.base);
    setenv("XDG_STATE_HOME", f.base, 1);
    f.settings.mqtt_endpoint = (char *)"mqtt://localhost:1";
    f.settings.mqtt_prefix = (char *)"gotthard/v1";
    assert_int_equal(gt_key_parse(KEY, IV, &f.identity.key), 0);
    epoch_memory_init(&f.memory, &f.settings, &f.identity);
    assert_non_null(strstr(f.memory.path, "/gotthard/epochs-"));
    return 0;
}

static int tear_down(void **state)
{
    unlink(f.memory.path);
    rmdir(f.folder);
    return rmdir(f.base);
}

static bool is_found(const char *device)
{
    uint8_t found[GT_EPOCH_SIZE] = {0xff};

    if (!epoch_memory_find(&f.memory, device, found)) {
        assert_int_equal(found[0], 0xff);
        return false;
    }
    assert_memory_equal(found, epoch, sizeof(epoch));
    return true;
}

static void write_text(const char *text, size_t n)
{
    FILE *file;

    (void)mkdir(f.folder, 0700);
    file = fopen(f.memory.path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, n, file), n);
    assert_int_equal(fclose(file), 0);
}

static void test_epoch_is_found_for_its_device_only(void **state)
{
    uint8_t other[GT_EPOCH_SIZE] = {1};
    struct stat st;
    mode_t before = umask(0);

    assert_false(is_found("a"));
    epoch_memory_set(&f.memory, "a", epoch);
    epoch_memory_set(&f.memory, "b", other);
    umask(before);
    assert_true(is_found("a"));
    assert_false(is_found("aa"));
    assert_false(is_found("A"));
    assert_int_equal(stat(f.memory.path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    epoch_memory_set(&f.memory, "b", epoch);
    assert_true(is_found("b"));
    epoch_memory_set(&f.memory, "a", NULL);
    assert_false(is_found("a"));
    assert_true(is_found("b"));
}

static void test_other_fleets_and_brokers_have_files_of_their_own(void **state)
{
    struct epoch_memory other;

    f.settings.mqtt_endpoint = (char *)"mqtt://localhost:2";
    epoch_memory_init(&other, &f.settings, &f.identity);
    assert_string_not_equal(other.path, f.memory.path);
    f.settings.mqtt_endpoint = (char *)"mqtt://localhost:1";
    f.identity.key.relay[0] ^= 1;
    epoch_memory_init(&other, &f.settings, &f.identity);
    assert_string_not_equal(other.path, f.memory.path);
}

static void test_malformed_contents_are_ignored(void **state)
{
    static const struct {
        const char *text;
        bool is_found;
    } rows[] = {
        {"", false},
        {"\n\n", false},
        {"a", false},
        {"a ", false},
        {"a \n", false},
        {"a " HEX, true},
        {"a " HEX "\n", true},
        {"a " HEX "0\n", false},
        {"a " HEX " \n", false},
        {"a 000102030405060708090a0b0c0d0e0\n", false},
        {"a 000102030405060708090a0b0c0d0e0g\n", false},
        {"a  " HEX "\n", false},
        {" a " HEX "\n", false},
        {"b " HEX "\n", false},
        {"b\nc d\n\na " HEX "\n", true},
        {"a x\na " HEX "\n", false}, /* the first line of the name counts */
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(rows); i++) {
        write_text(rows[i].text, strlen(rows[i].text));
        if (is_found("a") != rows[i].is_found)
            fail_msg("\"%s\"", rows[i].text);
        epoch_memory_set(&f.memory, "a", epoch); /* mends it */
        assert_true(is_found("a"));
    }
}

static void test_random_contents_are_ignored(void **state)
{
    unsigned seed = 20261130;
    char text[400];

    for (int i = 0; i < 300; i++) {
        static const char alphabet[] = "a 0f\n\r=gz\xff";
        size_t n = (size_t)rand_r(&seed) % sizeof(text);

        for (size_t j = 0; j < n; j++)
            text[j] = alphabet[(size_t)rand_r(&seed) % (sizeof(alphabet) - 1)];
        write_text(text, n);
        if (is_found("a"))
            fail_msg("round %d of seed 20261130", i);
    }
}

static void test_file_that_others_can_write_is_not_used(void **state)
{
    epoch_memory_set(&f.memory, "a", epoch);
    assert_int_equal(chmod(f.memory.path, 0666), 0);
    assert_false(is_found("a"));
}

static size_t file_size(void)
{
    struct stat st;

    assert_int_equal(stat(f.memory.path, &st), 0);
    return (size_t)st.st_size;
}

/* With names of the greatest length the file stays readable, and the devices used last stay. */
static void test_file_is_bounded(void **state)
{
    char name[GT_NAME_MAX + 1];
    size_t full = 0;

    memset(name, 'x', GT_NAME_MAX);
    name[GT_NAME_MAX] = 0;
    for (unsigned i = 0; i < EPOCH_MEMORY_MAX + 3; i++) {
        snprintf(name, 5, "%04u", i);
        name[4] = 'x';
        epoch_memory_set(&f.memory, name, epoch);
        if (i == EPOCH_MEMORY_MAX - 1)
            full = file_size();
    }
    assert_int_equal(file_size(), full);
    assert_true(is_found(name));
    memcpy(name, "0003", 4);
    assert_true(is_found(name));
    memcpy(name, "0002", 4);
    assert_false(is_found(name));
}

/* A larger file was not written by this program. */
static void test_file_that_is_too_large_is_not_used(void **state)
{
    size_t n = EPOCH_MEMORY_MAX * (GT_NAME_MAX + 2 + 2 * GT_EPOCH_SIZE) + 1;
    char *text = malloc(n);

    assert_non_null(text);
    memset(text, '\n', n);
    memcpy(text, "a " HEX, strlen("a " HEX));
    write_text(text, n - 1);
    assert_true(is_found("a"));
    write_text(text, n);
    assert_false(is_found("a"));
    free(text);
}

static void test_without_a_folder_nothing_is_remembered(void **state)
{
    struct epoch_memory memory;

    setenv("XDG_STATE_HOME", "", 1);
    setenv("HOME", "/nonexistent/home", 1);
    epoch_memory_init(&memory, &f.settings, &f.identity);
    uint8_t found[GT_EPOCH_SIZE];
    epoch_memory_set(&memory, "a", epoch);
    assert_false(epoch_memory_find(&memory, "a", found));
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(epoch_is_found_for_its_device_only),
        TEST(other_fleets_and_brokers_have_files_of_their_own),
        TEST(malformed_contents_are_ignored),
        TEST(random_contents_are_ignored),
        TEST(file_that_others_can_write_is_not_used),
        TEST(file_is_bounded),
        TEST(file_that_is_too_large_is_not_used),
        TEST(without_a_folder_nothing_is_remembered),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
