/* SPDX-License-Identifier: ISC */
/*
 * A program's table of settings as text for people: the list for --help, the annotated file in
 * etc/ and the settings part of the manual page. Generating all three keeps them equal to what the
 * program does. The text must not depend on the machine that it is generated on.
 */
#include <stdio.h>

#include "gotthard/config/config-value.h"
#include "gotthard/config/config.h"
#include "gotthard/config/wrap.h"

/* --- facts of one item ---------------------------------------------------------------------- */

static const char *value_word(enum gt_config_type type)
{
    switch (type) {
    case GT_CONFIG_STRING: return "TEXT";
    case GT_CONFIG_NAME: return "NAME";
    case GT_CONFIG_HOST: return "HOST";
    case GT_CONFIG_PATH: return "PATH";
    case GT_CONFIG_PATHS: return "PATHS";
    case GT_CONFIG_SECRET: return "SECRET";
    case GT_CONFIG_NUMBER: return "N";
    case GT_CONFIG_BOOL: return "";
    case GT_CONFIG_DURATION: return "TIME";
    case GT_CONFIG_SIZE: return "SIZE";
    case GT_CONFIG_CHOICE: return "WORD";
    case GT_CONFIG_MAP: return "GROUP";
    }
    return "";
}

static const char *default_text(const struct gt_config_item *item)
{
    if (item->fallback_help)
        return item->fallback_help;
    return item->fallback && *item->fallback ? item->fallback : NULL;
}

/* "number, 1 to 65535, default 7000": the type, the range and the default. */
static const char *item_facts(const struct gt_config_item *item, char *ret, size_t cap)
{
    char form[128];
    const char *fallback = default_text(item);

    snprintf(ret, cap, "%s%s%s", gt_configvalue_form(item, form, sizeof(form)),
             fallback ? ", default " : ", no default", fallback ? fallback : "");
    return ret;
}

/* The setting's group: the part of its path before the point; empty for a MAP at the top. */
static size_t group_length(const struct gt_config_item *item)
{
    const char *point = strchr(item->path, '.');

    return point ? (size_t)(point - item->path) : 0;
}

static bool is_same_group(const struct gt_config_item *a, const struct gt_config_item *b)
{
    size_t n = group_length(a);

    return n > 0 && n == group_length(b) && memcmp(a->path, b->path, n) == 0;
}

/* True for the first item of a group, at which the whole group is written. */
static bool is_first_of_group(const struct gt_config_program *program, size_t at)
{
    for (size_t i = 0; i < at; i++)
        if (is_same_group(&program->items[i], &program->items[at]))
            return false;
    return true;
}

static const char *group_help(const struct gt_config_program *program,
                              const struct gt_config_item *item)
{
    for (size_t i = 0; i < program->n_groups; i++) {
        const char *name = program->groups[i].name;

        if (strlen(name) == group_length(item) && memcmp(name, item->path, strlen(name)) == 0)
            return program->groups[i].help;
    }
    return "";
}

/* --- --help --------------------------------------------------------------------------------- */

static void help_item(const struct gt_config_item *item, int fd)
{
    char head[128], variable[GT_CONFIG_VARIABLE_MAX];
    const char *word = value_word(item->type), *fallback = default_text(item);
    bool has_variable = gt_config_variable(item, variable);

    snprintf(head, sizeof(head), "%s%s%s%s", item->flag ? "--" : "",
             item->flag ? item->flag : item->path, *word ? " " : "", word);
    dprintf(fd, "  %-30s %s\n", head, item->help ? item->help : "");
    dprintf(fd, "  %-30s %s%s%s%s%s%s\n", "", item->path, has_variable ? ", " : "", variable,
            fallback ? " (default " : "", fallback ? fallback : "", fallback ? ")" : "");
}

static bool accepts(uint32_t commands, const struct gt_config_item *item)
{
    return !commands || !item->commands || (item->commands & commands);
}

void gt_config_help(const struct gt_config_program *program, uint32_t commands, int fd)
{
    for (size_t i = 0; i < program->n_items; i++)
        if (program->items[i].flag && accepts(commands, &program->items[i]))
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

    snprintf(line, sizeof(line), "(%s%s%s%s%s%s%s%s%s)", item_facts(item, facts, sizeof(facts)),
             has_variable ? "; " : "", variable, is_secret ? ", " : "", is_secret ? variable : "",
             is_secret ? "_FILE" : "", item->flag ? (has_variable ? ", " : "; ") : "",
             item->flag ? "--" : "", item->flag ? item->flag : "");
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
    const char *name = item->path + group_length(item) + 1;
    const char *value = item->fallback && !item->fallback_help ? item->fallback : "";
    bool is_quoted = item->type != GT_CONFIG_NUMBER && item->type != GT_CONFIG_BOOL;
    const char *quote = is_quoted ? "\"" : "";

    file_comment(item, "    # ", fd);
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

    gt_wrap_paragraph(fd, "# ", group_help(program, item));
    dprintf(fd, "%.*s = {\n", (int)group_length(item), item->path);
    for (size_t i = first; i < program->n_items; i++) {
        if (i != first && !is_same_group(item, &program->items[i]))
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
    snprintf(text, sizeof(text),
             "Settings of %s. This file is documentation, and no program reads it. Write your "
             "settings to /etc/gotthard/%s.conf.d/site.conf, or another name that ends with "
             ".conf%s.",
             program->manual, name,
             program->has_home_file ? ", or to ~/.config/gotthard/cli.conf" : "");
    gt_wrap_paragraph(fd, "# ", text);
    dprintf(fd, "#\n");
    snprintf(
        text, sizeof(text),
        "Every setting is shown at its default, commented out. The last of these layers wins: "
        "defaults, environment variables, /etc/gotthard/%s.conf, "
        "/etc/gotthard/%s.conf.d/*.conf in name order, %sthe command line. A setting may be in "
        "several files, but once in each. %s",
        name, name, program->has_home_file ? "the user's ~/.config/gotthard/cli.conf, " : "",
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
        if (!is_first_of_group(program, i))
            continue;
        dprintf(fd, "\n");
        if (program->items[i].type == GT_CONFIG_MAP)
            file_map(&program->items[i], fd);
        else
            file_group(program, i, fd);
    }
}

/* --- the manual page, scdoc(5) -------------------------------------------------------------- */

static void manual_item(const struct gt_config_item *item, int fd)
{
    char facts[256], variable[GT_CONFIG_VARIABLE_MAX], a[1024], b[1024];
    struct gt_wrap p = {fd, "\t", 0};

    dprintf(fd, "\n*%s* (%s)\n", gt_wrap_escape(item->path, a, sizeof(a)),
            gt_wrap_escape(item_facts(item, facts, sizeof(facts)), b, sizeof(b)));
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
    if (item->flag)
        dprintf(fd, "%sOption: *--%s*%s%s%s", has_variable ? ". " : "", item->flag,
                *value_word(item->type) ? " _" : "", value_word(item->type),
                *value_word(item->type) ? "_" : "");
    dprintf(fd, "%s\n", item->type == GT_CONFIG_SECRET ? "" : ".");
}

static void manual_group(const struct gt_config_program *program, size_t first, int fd)
{
    const struct gt_config_item *item = &program->items[first];
    char text[1024];

    dprintf(fd, "\n## %.*s\n\n", (int)group_length(item), item->path);
    gt_wrap_paragraph(fd, "", gt_wrap_escape(group_help(program, item), text, sizeof(text)));
    for (size_t i = first; i < program->n_items; i++)
        if (i == first || is_same_group(item, &program->items[i]))
            manual_item(&program->items[i], fd);
}

void gt_config_format_manual(const struct gt_config_program *program, int fd)
{
    for (size_t i = 0; i < program->n_items; i++) {
        if (!is_first_of_group(program, i))
            continue;
        if (program->items[i].type == GT_CONFIG_MAP)
            dprintf(fd, "\n## %s\n", program->items[i].path);
        if (program->items[i].type == GT_CONFIG_MAP)
            manual_item(&program->items[i], fd);
        else
            manual_group(program, i, fd);
    }
}
