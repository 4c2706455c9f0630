/* SPDX-License-Identifier: ISC */
/*
 * Only what is a public key's line is taken for one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "hostkeys.h"

#define ED25519 "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE"
#define ECDSA   "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBA=="

static void a_public_line_and_nothing_else(void **state)
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

static void a_line_must_fit(void **state)
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

static void patterns_find_files_shortest_key_first(void **state)
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

static void none_is_good_too(void **state)
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
        cmocka_unit_test(a_public_line_and_nothing_else),
        cmocka_unit_test(a_line_must_fit),
        cmocka_unit_test(patterns_find_files_shortest_key_first),
        cmocka_unit_test(none_is_good_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
