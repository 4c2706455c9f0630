/* SPDX-License-Identifier: ISC */
/*
 * A program's table of settings as text for people: the list for --help and the annotated file in
 * etc/. Generating both keeps them equal to what the program does.
 */
#include <stdio.h>

#include "gotthard/config/config-facts.h"
#include "gotthard/config/wrap.h"

/* --- --help --------------------------------------------------------------------------------- */

/* Writes " (auto 5 3.1.1; default auto)", or nothing. */
static void help_default(const struct gt_config_item *item, int fd)
{
    const char *fallback = gt_configfacts_default(item), *choices = item->choices;

    if (choices && fallback)
        dprintf(fd, " (%s; default %s)", choices, fallback);
    else if (fallback)
        dprintf(fd, " (default %s)", fallback);
}

static void help_item(const struct gt_config_item *item, int fd)
{
    char head[128], variable[GT_CONFIG_VARIABLE_MAX];
    const char *word = gt_configfacts_value_word(item->type);
    bool has_variable = gt_config_variable(item, variable);

    snprintf(head, sizeof(head), "%s%s%s%s", item->flag ? "--" : "",
             item->flag ? item->flag : item->path, *word ? " " : "", word);
    dprintf(fd, "  %-30s %s\n", head, item->help ? item->help : "");
    dprintf(fd, "  %-30s %s%s%s", "", item->path, has_variable ? ", " : "", variable);
    help_default(item, fd);
    dprintf(fd, "\n");
}

void gt_config_help(const struct gt_config_program *program, uint32_t commands, int fd)
{
    for (size_t i = 0; i < program->n_items; i++)
        if (program->items[i].flag && gt_configfacts_is_accepted(&program->items[i], commands))
            help_item(&program->items[i], fd);
    if (commands)
        return;
    dprintf(fd, "\nOnly in a configuration file or in the environment:\n");
    for (size_t i = 0; i < program->n_items; i++)
        if (!program->items[i].flag)
            help_item(&program->items[i], fd);
}

/* --- etc/<program>.conf --------------------------------------------------------------------- */

/* "(number, 1 to 65535, default 7000; GOTTHARD_SERVER_PORT, --server-port)" */
static void file_facts(const struct gt_config_item *item, const char *prefix, int fd)
{
    char facts[256], variable[GT_CONFIG_VARIABLE_MAX] = "", line[512];
    bool has_variable = gt_config_variable(item, variable);
    bool is_secret = item->type == GT_CONFIG_SECRET;

    snprintf(line, sizeof(line), "(%s%s%s%s%s%s%s%s%s)",
             gt_configfacts_form(item, facts, sizeof(facts)), has_variable ? "; " : "", variable,
             is_secret ? ", " : "", is_secret ? variable : "", is_secret ? "_FILE" : "",
             item->flag ? (has_variable ? ", " : "; ") : "", item->flag ? "--" : "",
             item->flag ? item->flag : "");
    gt_wrap_paragraph(fd, prefix, line);
}

static void file_comment(const struct gt_config_item *item, const char *prefix, int fd)
{
    struct gt_wrap p = {fd, prefix, 0};

    gt_wrap_text(&p, item->help ? item->help : "");
    gt_wrap_text(&p, item->details ? item->details : "");
    gt_wrap_end(&p);
    file_facts(item, prefix, fd);
}

static void file_item(const struct gt_config_item *item, int fd)
{
    const char *name = item->path + gt_configfacts_group_length(item) + 1;
    const char *value = item->fallback && !item->fallback_help ? item->fallback : "";
    bool is_quoted = item->type != GT_CONFIG_NUMBER && item->type != GT_CONFIG_BOOL;
    const char *quote = is_quoted ? "\"" : "";

    file_comment(item, "    # ", fd);
    if (item->type == GT_CONFIG_MAP)
        dprintf(fd, "    #%s = { };\n", name);
    else
        dprintf(fd, "    #%s = %s%s%s;\n", name, quote, value, quote);
    if (item->type == GT_CONFIG_SECRET)
        dprintf(fd, "    #%s_file = \"\";\n", name);
}

static void file_map(const struct gt_config_item *item, int fd)
{
    file_comment(item, "# ", fd);
    dprintf(fd, "%s = {\n};\n", item->path);
}

static void file_group(const struct gt_config_program *program, size_t first, int fd)
{
    const struct gt_config_item *item = &program->items[first];

    gt_wrap_paragraph(fd, "# ", gt_configfacts_group_help(program, item));
    dprintf(fd, "%.*s = {\n", (int)gt_configfacts_group_length(item), item->path);
    for (size_t i = first; i < program->n_items; i++) {
        if (i != first && !gt_configfacts_is_same_group(item, &program->items[i]))
            continue;
        dprintf(fd, "%s", i == first ? "" : "\n");
        file_item(&program->items[i], fd);
    }
    dprintf(fd, "};\n");
}

static void file_head(const struct gt_config_program *program, int fd)
{
    char text[1024];
    const char *name = program->name;

    dprintf(fd, "# SPDX-License-Identifier: ISC\n");
    snprintf(
        text, sizeof(text),
        "Settings of %s, which gotthard-%s.conf(5) describes. This file is documentation, and no "
        "program reads it. Write your "
        "settings to /etc/gotthard/%s.conf.d/site.conf, or another name that ends with "
        ".conf%s.",
        program->manual, name, name,
        program->has_home_file ? ", or to ~/.config/gotthard/cli.conf" : "");
    gt_wrap_paragraph(fd, "# ", text);
    dprintf(fd, "#\n");
    snprintf(
        text, sizeof(text),
        "Every setting is shown at its default, commented out. The last of these layers wins: "
        "defaults, environment variables, /etc/gotthard/%s.conf, "
        "/etc/gotthard/%s.conf.d/*.conf in name order, %sthe command line. A setting may be in "
        "several files, but once in each. %s",
        name, name,
        program->has_home_file ? "the same two of the user in ~/.config/gotthard, " : "",
        program->usage);
    gt_wrap_paragraph(fd, "# ", text);
    dprintf(fd, "#\n");
    gt_wrap_paragraph(
        fd, "# ",
        "A number is decimal digits. A duration is a text with a unit (ms, s, min, h, d), such as "
        "\"30s\". A size is a text with a unit (B, KiB, MiB, GiB), such as \"64KiB\". An empty text "
        "counts as not given. A path begins at the folder of its file unless it begins with / or "
        "~/. A file that contains a secret must not be readable by others (mode 0640 or 0600). A "
        "setting that ends with _file names a separate file for the secret.");
    dprintf(fd, "#\n");
    gt_wrap_paragraph(fd, "# ", "Generated from the table of settings by tests/generate.");
}

void gt_config_format_file(const struct gt_config_program *program, int fd)
{
    file_head(program, fd);
    for (size_t i = 0; i < program->n_items; i++) {
        if (!gt_configfacts_is_first(program, i))
            continue;
        dprintf(fd, "\n");
        if (program->items[i].type == GT_CONFIG_MAP)
            file_map(&program->items[i], fd);
        else
            file_group(program, i, fd);
    }
}
