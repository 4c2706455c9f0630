/* SPDX-License-Identifier: ISC */
/*
 * hostkeys.c: only lines of public keys are accepted.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "hostkeys.h"

#define ED25519 "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE"
#define ECDSA   "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBA=="

static void test_parse_accepts_public_keys_only(void **state)
{
    static const struct {
        const char *text, *line;
    } cases[] = {
        {ED25519 " root@device\n", ED25519},
        {ED25519, ED25519},
        {ECDSA "\r\nmore", ECDSA},
        {"", NULL},
        {"\n" ED25519, NULL},
        {"ssh-ed25519", NULL},
        {"ssh-ed25519 ", NULL},
        {"ssh-ed25519 AAAA", NULL},
        {"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5\x1b[2J", NULL},
        {"-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA", NULL},
        {"@cert-authority * " ED25519, NULL},
        {"root:x:0:0:root:/root:/bin/bash", NULL},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        char line[256];

        assert_int_equal(hostkeys_parse(cases[i].text, line, sizeof(line)), cases[i].line != NULL);
        if (cases[i].line)
            assert_string_equal(line, cases[i].line);
    }
}

static void test_parse_rejects_line_beyond_capacity(void **state)
{
    char line[sizeof(ED25519)];

    assert_true(hostkeys_parse(ED25519, line, sizeof(line)));
    assert_false(hostkeys_parse(ED25519, line, sizeof(line) - 1));
}

static void write_file(const char *folder, const char *name, const char *text)
{
    char path[256];

    snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void test_read_sorts_keys_by_length(void **state)
{
    char folder[] = "/tmp/test-hostkeys.XXXXXX", patterns[512], command[64];
    struct hostkeys keys;

    assert_non_null(mkdtemp(folder));
    write_file(folder, "a_key.pub", ECDSA " x\n");
    write_file(folder, "b_key.pub", ED25519 " x\n");
    write_file(folder, "c_key.pub", "no key\n");
    write_file(folder, "d_key", "-----BEGIN OPENSSH PRIVATE KEY-----\n");
    snprintf(patterns, sizeof(patterns), "%s/*_key.pub  %s/d_key /nonexistent/*", folder, folder);
    hostkeys_read(patterns, &keys);
    assert_int_equal(keys.n, 2);
    assert_string_equal(keys.lines[0], ED25519);
    assert_string_equal(keys.lines[1], ECDSA);
    assert_int_equal(keys.spans[0].n, strlen(ED25519));
    hostkeys_deinit(&keys);
    snprintf(command, sizeof(command), "rm -r %s", folder);
    assert_int_equal(system(command), 0);
}

static void test_renew_follows_the_files(void **state)
{
    char folder[] = "/tmp/test-hostkeys.XXXXXX", pattern[64], command[64], path[64];
    struct hostkeys keys;

    assert_non_null(mkdtemp(folder));
    snprintf(pattern, sizeof(pattern), "%s/*_key.pub", folder);
    snprintf(path, sizeof(path), "%s/a_key.pub", folder);
    hostkeys_read(pattern, &keys);
    assert_int_equal(keys.n, 0);
    assert_false(hostkeys_renew(pattern, &keys));
    write_file(folder, "a_key.pub", ED25519 "\n"); /* the first boot generates it */
    assert_true(hostkeys_renew(pattern, &keys));
    assert_false(hostkeys_renew(pattern, &keys));
    assert_int_equal(keys.n, 1);
    assert_string_equal(keys.lines[0], ED25519);
    assert_int_equal(unlink(path), 0);
    write_file(folder, "a_key.pub", ECDSA "\n");
    assert_true(hostkeys_renew(pattern, &keys));
    assert_string_equal(keys.lines[0], ECDSA);
    assert_int_equal(keys.spans[0].n, strlen(ECDSA));
    snprintf(command, sizeof(command), "rm -r %s", folder);
    assert_int_equal(system(command), 0);
    assert_true(hostkeys_renew(pattern, &keys));
    assert_int_equal(keys.n, 0);
    hostkeys_deinit(&keys);
}

static void test_read_accepts_no_patterns(void **state)
{
    struct hostkeys keys;

    hostkeys_read("", &keys);
    assert_int_equal(keys.n, 0);
    hostkeys_deinit(&keys);
    hostkeys_read(NULL, &keys);
    assert_int_equal(keys.n, 0);
    hostkeys_deinit(&keys);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse_accepts_public_keys_only),
        cmocka_unit_test(test_parse_rejects_line_beyond_capacity),
        cmocka_unit_test(test_read_sorts_keys_by_length),
        cmocka_unit_test(test_renew_follows_the_files),
        cmocka_unit_test(test_read_accepts_no_patterns),
    };

    umask(022); /* a file that a group may write is refused */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
