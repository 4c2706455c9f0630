/* SPDX-License-Identifier: ISC */
/*
 * Prints a program's table of settings as etc/<program>.conf (`file`) or as the settings part of
 * its manual page (`manual`). Built once for each program; tests/generate runs it. A malformed
 * table is an error, so that it cannot be committed.
 */
#include <stdio.h>
#include <string.h>

#include "settings.h"

static const char *item_fault(const struct gt_config_program *program, size_t at)
{
    const struct gt_config_item *item = &program->items[at];
    size_t n_help = item->help ? strlen(item->help) : 0;

    if (strlen(item->path) > GT_CONFIG_PATH_MAX)
        return "the path is too long";
    if (!strchr(item->path, '.') != (item->type == GT_CONFIG_MAP))
        return "a MAP, and no other setting, must be outside a group";
    if (item->type == GT_CONFIG_SECRET && item->flag)
        return "a secret must not have an option";
    if (n_help == 0 || n_help > GT_CONFIG_HELP_MAX || item->help[n_help - 1] != '.')
        return "the help must be one sentence that fits a line of --help";
    for (size_t i = 0; i < at; i++) {
        const struct gt_config_item *other = &program->items[i];

        if (strcmp(other->path, item->path) == 0)
            return "the path is not unique";
        if (other->flag && item->flag && strcmp(other->flag, item->flag) == 0)
            return "the option is not unique";
    }
    return NULL;
}

static int check(const struct gt_config_program *program)
{
    int n_faults = 0;

    for (size_t i = 0; i < program->n_items; i++) {
        const char *fault = item_fault(program, i);

        if (fault)
            fprintf(stderr, "%s: %s\n", program->items[i].path, fault);
        n_faults += fault != NULL;
    }
    return n_faults ? 1 : 0;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "file") == 0)
        gt_config_format_file(settings_program(), STDOUT_FILENO);
    else if (argc == 2 && strcmp(argv[1], "manual") == 0)
        gt_config_format_manual(settings_program(), STDOUT_FILENO);
    else
        return 64;
    return check(settings_program());
}
