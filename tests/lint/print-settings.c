/* SPDX-License-Identifier: ISC */
/*
 * Prints a program's table of settings as etc/<program>.conf (`file`) or as parts of its manual
 * pages: its settings (`manual`), the options for them (`options`) and their variables
 * (`variables`). Built once for each program; tests/generate runs it. A malformed
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
    if (!strchr(item->path, '.') && item->type != GT_CONFIG_MAP)
        return "only a MAP may be outside a group";
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

static const struct form {
    const char *name;
    void (*print)(const struct gt_config_program *program, int fd);
} forms[] = {
    {"file", gt_config_format_file},
    {"manual", gt_config_format_manual},
    {"options", gt_config_format_manual_options},
    {"variables", gt_config_format_manual_variables},
};

int main(int argc, char **argv)
{
    for (size_t i = 0; i < GT_ARRAY_SIZE(forms) && argc == 2; i++)
        if (strcmp(argv[1], forms[i].name) == 0) {
            forms[i].print(settings_program(), STDOUT_FILENO);
            return check(settings_program());
        }
    return 64;
}
