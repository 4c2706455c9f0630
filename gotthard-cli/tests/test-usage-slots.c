/* SPDX-License-Identifier: ISC */
/* usage-slots.c: what each argument of a usage text means. */
#include "usage-slots.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "commands.h"

static char found[256];

static void on_slot(void *userdata, enum usage_slot slot, const char *word, size_t n)
{
    static const char *const names[] = {"none",    "free", "rest",   "DEVICE",
                                        "SERVICE", "TAG",  "COMMAND"};
    size_t at = strlen(found);

    snprintf(found + at, sizeof(found) - at, "%s%.*s", at > 0 ? " " : "",
             word ? (int)n : (int)strlen(names[slot]), word ? word : names[slot]);
}

/* Returns the alternatives of the argument after @arguments, which are separated by blanks. */
static const char *slots(const char *usage, const char *arguments)
{
    static char copy[256];
    const char *words[16];
    size_t n = 0;
    char *at = NULL;

    snprintf(copy, sizeof(copy), "%s", arguments);
    for (char *word = strtok_r(copy, " ", &at); word; word = strtok_r(NULL, " ", &at))
        words[n++] = word;
    found[0] = 0;
    usage_slots(usage, words, n, on_slot, NULL);
    return found;
}

#define KEYGEN "[device NAME | operator NAME [DEVICE]... | relay]"

static const struct {
    const char *usage, *arguments, *expected;
} rows[] = {
    {"", "", ""},
    {"DEVICE", "", "DEVICE"},
    {"DEVICE", "x", ""},
    {"[DEVICE]", "", "DEVICE"},
    {"[PATTERN]", "", "DEVICE"},
    {"[COMMAND]", "", "COMMAND"},
    {"show", "", "show"},
    {"show", "show", ""},
    {"bash|zsh|fish", "", "bash zsh fish"},
    {"DEVICE [[udp:][LOCAL:|PATH:](SERVICE|[HOST:]PORT|socks)]...", "", "DEVICE"},
    {"DEVICE [[udp:][LOCAL:|PATH:](SERVICE|[HOST:]PORT|socks)]...", "x", "SERVICE"},
    {"DEVICE [[udp:][LOCAL:|PATH:](SERVICE|[HOST:]PORT|socks)]...", "x 1 2 3 4", "SERVICE"},
    {"DEVICE [SERVICE|[HOST:]PORT]", "x", "SERVICE"},
    {"DEVICE [SERVICE|[HOST:]PORT]", "x y", ""},
    {"[device NAME | relay]", "", "device relay"},
    {"[device NAME | relay]", "device", "free"},
    {"[device NAME | relay]", "relay", ""},
    {"[device NAME | relay]", "device x", ""},
    {"[device NAME | relay]", "nonsense", ""},
    {KEYGEN, "", "device operator relay"},
    {KEYGEN, "device", "free"},
    {KEYGEN, "device x", ""},
    {KEYGEN, "operator", "free"},
    {KEYGEN, "operator x", "DEVICE"},
    {KEYGEN, "operator x y z", "DEVICE"},
    {KEYGEN, "relay", ""},
    {"[TAG=VALUE | PATTERN]...", "", "TAG DEVICE"},
    {"[TAG=VALUE | PATTERN]...", "a=b c", "TAG DEVICE"},
    {"[USER@]DEVICE [ssh arguments]", "", "DEVICE"},
    {"[USER@]DEVICE [ssh arguments]", "x", "rest"},
    {"[USER@]DEVICE [ssh arguments]", "x y z", "rest"},
    {"[USER@]DEVICE [SSH-ARGUMENT]...", "", "DEVICE"},
    {"[USER@]DEVICE [SSH-ARGUMENT]...", "x", "rest"},
    {"[USER@]DEVICE [SSH-ARGUMENT]...", "x -v y", "rest"},
    {"[USER@]DEVICE [COMMAND [ARGUMENT]...]", "x", "rest"},
    {"--on TAG=VALUE [--user USER] -- COMMAND...", "", "rest"},
    {"[--user USER] DEVICE", "", "DEVICE"},
    {"[--all] DEVICE", "", "DEVICE"},
};

static void test_slots_of_usages(void **state)
{
    for (size_t i = 0; i < GT_ARRAY_SIZE(rows); i++)
        if (strcmp(slots(rows[i].usage, rows[i].arguments), rows[i].expected) != 0)
            fail_msg("\"%s\" after \"%s\": \"%s\", expected \"%s\"", rows[i].usage,
                     rows[i].arguments, found, rows[i].expected);
}

/* A command whose usage names a device offers devices, unless a word comes first. */
static void test_slots_of_the_table_have_devices(void **state)
{
    size_t n;
    const struct command *commands = command_table(&n);

    for (size_t i = 0; i < n; i++) {
        bool has_device = strstr(commands[i].usage, "DEVICE") != NULL;

        slots(commands[i].usage, "");
        if (has_device != (strstr(found, "DEVICE") != NULL) &&
            !strstr(commands[i].usage, "PATTERN") && strcmp(commands[i].name, "keygen") != 0)
            fail_msg("%s %s: \"%s\"", commands[i].name, commands[i].usage, found);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_slots_of_usages),
        cmocka_unit_test(test_slots_of_the_table_have_devices),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
