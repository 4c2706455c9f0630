/* SPDX-License-Identifier: ISC */
/*
 * A loaded configuration as the text of a file. A copy of the output must be accepted and have the
 * same values. A secret must never appear in it, except for a private file of the program itself.
 */
#include <stdio.h>

#include "gotthard/base/proxy.h"
#include "gotthard/config/config-private.h"
#include "gotthard/config/config-value.h"

#define INDENT "    "

struct show {
    int fd;
    bool has_secrets; /* for a private file, which has no overridden values */
};

/* Writes @text in quotes. It is printable, because it was checked as a value. */
static void show_quoted(const char *text, int fd)
{
    dprintf(fd, "\"");
    for (size_t n; *text; text += n) {
        n = strcspn(text, "\"\\");
        dprintf(fd, "%.*s", (int)n, text);
        if (text[n])
            dprintf(fd, "\\%c", text[n++]);
    }
    dprintf(fd, "\"");
}

static void show_value(const struct gt_config_item *item, const char *text, int fd)
{
    bool is_true = false;

    if (item->type == GT_CONFIG_BOOL)
        dprintf(fd, "%s", gt_text_bool(text, &is_true) == 0 && is_true ? "true" : "false");
    else if (item->type == GT_CONFIG_NUMBER)
        dprintf(fd, "%s", text);
    else
        show_quoted(text, fd);
}

/* The setting's name without its group. */
static const char *name_of(const struct gt_config_item *item)
{
    const char *point = strchr(item->path, '.');

    return point ? point + 1 : item->path;
}

static void show_secret(const struct gt_config_item *item,
                        const struct gt_config_assignment *winner, const struct show *show)
{
    int fd = show->fd;

    if (show->has_secrets && winner && !winner->file) {
        dprintf(fd, INDENT "%s = ", name_of(item));
        show_quoted(winner->text, fd);
        dprintf(fd, ";   # %s\n", winner->origin);
    } else if (winner && winner->file) {
        dprintf(fd, INDENT "%s_file = ", name_of(item));
        show_quoted(winner->file, fd);
        dprintf(fd, ";   # %s\n", winner->origin);
    } else {
        dprintf(fd, INDENT "# %s is %s   # %s\n", name_of(item), winner ? "set" : "not set",
                winner ? winner->origin : "default");
    }
}

static const char *indent_of(const struct gt_config_item *item)
{
    return strchr(item->path, '.') ? INDENT : "";
}

/* A URL without a password can be copied. In a private file it is whole, and the value of a
 * variable of other programs stays theirs. */
static void show_proxy(const struct gt_config_item *item, const struct gt_config_assignment *winner,
                       const struct show *show)
{
    char shown[GT_CONFIGVALUE_MAX + 1];
    int fd = show->fd;

    if (show->has_secrets && winner && winner->is_standard)
        winner = NULL;
    const char *text = winner ? winner->text : item->fallback ? item->fallback : "";
    bool has_password = !show->has_secrets && gt_proxy_has_password(text);

    dprintf(fd, INDENT "%s%s %s ",
            winner && !has_password ? ""
            : has_password          ? "# "
                                    : "#",
            name_of(item), has_password ? "is" : "=");
    show_quoted(show->has_secrets ? text : gt_proxy_without_password(text, shown), fd);
    dprintf(fd, "%s   # %s\n", has_password ? " with a password" : ";",
            winner ? winner->origin : "default");
}

/* @text: "name=value,name=value", which was checked. */
static void show_map(const struct gt_config_item *item, const struct gt_config_assignment *winner,
                     int fd)
{
    const char *text = winner ? winner->text : item->fallback ? item->fallback : "";

    dprintf(fd, "%s%s%s = {", indent_of(item), winner ? "" : "#", name_of(item));
    while (*text) {
        size_t n_name = strcspn(text, "="), n = strcspn(text, ",");
        char value[GT_CONFIGVALUE_MAX + 1];

        snprintf(value, sizeof(value), "%.*s", (int)(n - n_name - 1), text + n_name + 1);
        dprintf(fd, " %.*s = ", (int)n_name, text);
        show_quoted(value, fd);
        dprintf(fd, ";");
        text += n + (text[n] == ',');
    }
    dprintf(fd, " };   # %s\n", winner ? winner->origin : "default");
}

static void show_overridden(const struct gt_config_item *item,
                            const struct gt_config_assignments *given, int fd)
{
    for (size_t i = given->n; i-- > 1;) {
        dprintf(fd, "%s#   overrides ", indent_of(item));
        if (item->type == GT_CONFIG_SECRET || item->type == GT_CONFIG_PROXY)
            dprintf(fd, "another one");
        else
            show_value(item, given->all[i - 1].text, fd);
        dprintf(fd, "   # %s\n", given->all[i - 1].origin);
    }
}

static void show_item(const struct gt_config *config, size_t at, const struct show *show)
{
    int fd = show->fd;
    const struct gt_config_item *item = &config->program->items[at];
    const struct gt_config_assignments *given = &config->assignments[at];
    const struct gt_config_assignment *winner = given->n ? &given->all[given->n - 1] : NULL;
    const char *text = winner ? winner->text : item->fallback ? item->fallback : "";

    if (item->type == GT_CONFIG_MAP) {
        show_map(item, winner, fd);
    } else if (item->type == GT_CONFIG_SECRET) {
        show_secret(item, winner, show);
    } else if (item->type == GT_CONFIG_PROXY) {
        show_proxy(item, winner, show);
    } else {
        dprintf(fd, INDENT "%s%s = ", winner ? "" : "#", name_of(item));
        show_value(item, text, fd);
        dprintf(fd, ";   # %s\n", winner ? winner->origin : "default");
    }
    if (!show->has_secrets)
        show_overridden(item, given, fd);
}

static size_t group_length(const struct gt_config_item *item)
{
    return strcspn(item->path, ".");
}

static bool is_same_group(const struct gt_config_item *a, const struct gt_config_item *b)
{
    size_t n = group_length(a);

    return n == group_length(b) && memcmp(a->path, b->path, n) == 0;
}

/* A group is written at its first item. */
static void show_group(const struct gt_config *config, size_t first, const struct show *show)
{
    const struct gt_config_item *items = config->program->items;

    for (size_t i = 0; i < first; i++)
        if (is_same_group(&items[i], &items[first]))
            return;
    dprintf(show->fd, "%.*s = {\n", (int)group_length(&items[first]), items[first].path);
    for (size_t i = first; i < config->program->n_items; i++)
        if (is_same_group(&items[i], &items[first]))
            show_item(config, i, show);
    dprintf(show->fd, "};\n");
}

static void show_all(const struct gt_config *config, const struct show *show)
{
    for (size_t i = 0; i < config->program->n_items; i++) {
        if (strchr(config->program->items[i].path, '.'))
            show_group(config, i, show);
        else
            show_item(config, i, show);
    }
}

void gt_config_show(const struct gt_config *config, int fd)
{
    show_all(config, &(struct show){.fd = fd});
}

void gt_config_save(const struct gt_config *config, int fd)
{
    show_all(config, &(struct show){.fd = fd, .has_secrets = true});
}
