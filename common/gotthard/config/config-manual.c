/* SPDX-License-Identifier: ISC */
/*
 * The parts of manual pages that follow from a table of settings, in scdoc(5)'s markup.
 */
#include <stdio.h>
#include <string.h>

#include "gotthard/config/config-facts.h"
#include "gotthard/config/wrap.h"

/* "*--server-host* _HOST_" */
static void manual_option(const struct gt_config_item *item, int fd)
{
    const char *word = gt_configfacts_value_word(item->type);

    dprintf(fd, "*--%s*%s%s%s", item->flag, *word ? " _" : "", word, *word ? "_" : "");
}

static void manual_item(const struct gt_config_item *item, int fd)
{
    char facts[256], variable[GT_CONFIG_VARIABLE_MAX], a[1024], b[1024];
    struct gt_wrap p = {fd, "\t", 0};

    dprintf(fd, "\n*%s* (%s)\n", gt_wrap_escape(item->path, a, sizeof(a)),
            gt_wrap_escape(gt_configfacts_form(item, facts, sizeof(facts)), b, sizeof(b)));
    gt_wrap_text(&p, gt_wrap_escape(item->help ? item->help : "", a, sizeof(a)));
    gt_wrap_text(&p, gt_wrap_escape(item->details ? item->details : "", a, sizeof(a)));
    gt_wrap_end(&p);
    bool has_variable = gt_config_variable(item, variable);
    if (!has_variable && !item->flag)
        return;
    dprintf(fd, "\n\t");
    if (has_variable)
        dprintf(fd, "Variable: %s", gt_wrap_escape(variable, a, sizeof(a)));
    if (item->type == GT_CONFIG_SECRET)
        dprintf(fd, " or %s\\_FILE; file: *%s\\_file*", a,
                gt_wrap_escape(item->path, b, sizeof(b)));
    if (item->flag) {
        dprintf(fd, "%sOption: ", has_variable ? ". " : "");
        manual_option(item, fd);
    }
    dprintf(fd, "%s\n", item->type == GT_CONFIG_SECRET ? "" : ".");
}

static void manual_group(const struct gt_config_program *program, size_t first, int fd)
{
    const struct gt_config_item *item = &program->items[first];
    char text[1024];

    dprintf(fd, "\n## %.*s\n\n", (int)gt_configfacts_group_length(item), item->path);
    gt_wrap_paragraph(fd, "",
                      gt_wrap_escape(gt_configfacts_group_help(program, item), text, sizeof(text)));
    for (size_t i = first; i < program->n_items; i++)
        if (i == first || gt_configfacts_is_same_group(item, &program->items[i]))
            manual_item(&program->items[i], fd);
}

void gt_config_format_manual(const struct gt_config_program *program, int fd)
{
    for (size_t i = 0; i < program->n_items; i++) {
        if (!gt_configfacts_is_first(program, i))
            continue;
        if (program->items[i].type == GT_CONFIG_MAP)
            dprintf(fd, "\n## %s\n", program->items[i].path);
        if (program->items[i].type == GT_CONFIG_MAP)
            manual_item(&program->items[i], fd);
        else
            manual_group(program, i, fd);
    }
}

void gt_config_format_manual_options(const struct gt_config_program *program, int fd)
{
    char help[1024], path[128];

    for (size_t i = 0; i < program->n_items; i++) {
        const struct gt_config_item *item = &program->items[i];
        struct gt_wrap wrap = {fd, "\t", 0};

        if (!item->flag)
            continue;
        dprintf(fd, "\n");
        manual_option(item, fd);
        dprintf(fd, "\n");
        gt_wrap_text(&wrap, gt_wrap_escape(item->help ? item->help : "", help, sizeof(help)));
        snprintf(help, sizeof(help), "Setting: *%s*.",
                 gt_wrap_escape(item->path, path, sizeof(path)));
        gt_wrap_text(&wrap, help);
        gt_wrap_end(&wrap);
    }
}

void gt_config_format_manual_variables(const struct gt_config_program *program, int fd)
{
    char variable[GT_CONFIG_VARIABLE_MAX], a[2 * GT_CONFIG_VARIABLE_MAX], path[128];

    for (size_t i = 0; i < program->n_items; i++) {
        const struct gt_config_item *item = &program->items[i];

        if (!gt_config_variable(item, variable))
            continue;
        gt_wrap_escape(variable, a, sizeof(a));
        dprintf(fd, "\n*%s*", a);
        if (item->type == GT_CONFIG_SECRET)
            dprintf(fd, ", *%s\\_FILE*", a);
        dprintf(fd, "\n\t*%s*\n", gt_wrap_escape(item->path, path, sizeof(path)));
    }
}
