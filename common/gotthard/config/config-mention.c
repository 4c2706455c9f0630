/* SPDX-License-Identifier: ISC */
/* Settings in sentences; see the header. The origins are the ones of `config show`. */
#include "gotthard/config/config-mention.h"

#include <stdio.h>

#include "gotthard/config/config-private.h"

/* Returns the index of @path in the table, or the number of rows. */
static size_t find_item(const struct gt_config_program *program, const char *path, size_t n)
{
    size_t i = 0;

    while (i < program->n_items &&
           (strlen(program->items[i].path) != n || memcmp(program->items[i].path, path, n) != 0))
        i++;
    return i;
}

static bool is_file(const struct gt_config_assignment *assignment)
{
    return *assignment->origin == '/';
}

/* Returns true if the configuration has no file, and at least one variable. */
static bool has_only_variables(const struct gt_config *config)
{
    bool has_variable = false;

    if (config->file)
        return false;
    for (size_t i = 0; i < config->program->n_items; i++)
        for (size_t j = 0; j < config->assignments[i].n; j++) {
            const struct gt_config_assignment *given = &config->assignments[i].all[j];

            if (is_file(given))
                return false;
            has_variable = has_variable || *given->origin != '-';
        }
    return has_variable;
}

/* Writes the file in which a person sets something. */
static const char *place_of(const struct gt_config *config, char *ret, size_t cap)
{
    const char *folder = getenv("GOTTHARD_CONFIG_DIR"), *home = getenv("XDG_CONFIG_HOME");
    const char *name = config->program->name;
    bool is_home = config->program->has_home_file;

    if (config->file)
        snprintf(ret, cap, "%s", config->file);
    else if (is_home && home && *home == '/')
        snprintf(ret, cap, "%s/gotthard/%s.conf", home, name);
    else if (is_home)
        snprintf(ret, cap, "~/.config/gotthard/%s.conf", name);
    else
        snprintf(ret, cap, "%s/%s.conf.d/site.conf", folder && *folder ? folder : "/etc/gotthard",
                 name);
    return ret;
}

static void mention_unset(const struct gt_config *config, const struct gt_config_item *item,
                          char *ret, size_t cap)
{
    char place[GT_CONFIG_MENTION], variable[GT_CONFIG_VARIABLE_MAX];
    const char *state = item->fallback ? "default" : "not set";

    if (has_only_variables(config) && gt_config_variable(item, variable))
        snprintf(ret, cap, "%s (%s)", variable, state);
    else
        snprintf(ret, cap, "%s (%s; set it in %s)", item->path, state,
                 place_of(config, place, sizeof(place)));
}

static void mention(const struct gt_config *config, size_t at, char *ret, size_t cap)
{
    const struct gt_config_item *item = &config->program->items[at];
    const struct gt_config_assignments *given = &config->assignments[at];
    const struct gt_config_assignment *winner = given->n > 0 ? &given->all[given->n - 1] : NULL;

    if (!winner)
        mention_unset(config, item, ret, cap);
    else if (winner->file && is_file(winner))
        snprintf(ret, cap, "%s (%s)", item->path, winner->file);
    else if (is_file(winner))
        snprintf(ret, cap, "%s (%s)", item->path, winner->origin);
    else if (winner->file)
        snprintf(ret, cap, "%s (%s)", winner->origin, winner->file);
    else
        snprintf(ret, cap, "%s", winner->origin);
}

static void mention_place(const struct gt_config *config, size_t at, char *ret, size_t cap)
{
    const struct gt_config_item *item = &config->program->items[at];
    char place[GT_CONFIG_MENTION], variable[GT_CONFIG_VARIABLE_MAX];

    const char *suffix = item->type == GT_CONFIG_SECRET ? "_file" : "";

    if (config->assignments[at].n > 0)
        mention(config, at, ret, cap);
    else if (has_only_variables(config) && gt_config_variable(item, variable))
        snprintf(ret, cap, "%s", variable);
    else
        snprintf(ret, cap, "%s%s in %s", item->path, suffix,
                 place_of(config, place, sizeof(place)));
}

typedef void (*mention_fn)(const struct gt_config *config, size_t at, char *ret, size_t cap);

/* Writes the @n bytes of @path with @write. Returns false if it is no setting. */
static bool mention_by(const struct gt_config *config, mention_fn write, struct gt_span path,
                       char *ret, size_t cap)
{
    const char *name = (const char *)path.data;

    if (!config && (write == mention_place || memchr(name, '.', path.n))) {
        snprintf(ret, cap, "%.*s", (int)path.n, name);
        return true;
    }
    if (!config)
        return false;
    size_t at = find_item(config->program, name, path.n);
    if (at == config->program->n_items)
        return false;
    write(config, at, ret, cap);
    return true;
}

const char *gt_config_mention(const struct gt_config *config, const char *path, char *ret,
                              size_t cap)
{
    if (!mention_by(config, mention, gt_span_text(path), ret, cap))
        snprintf(ret, cap, "%s", path);
    return ret;
}

const char *gt_config_mention_place(const struct gt_config *config, const char *path, char *ret,
                                    size_t cap)
{
    if (!mention_by(config, mention_place, gt_span_text(path), ret, cap))
        snprintf(ret, cap, "%s", path);
    return ret;
}

/* Writes the setting that begins at @text, which is behind a brace. Returns the bytes of its name
 * and the closing brace, or 0 if there is no such setting. */
static size_t expand(const struct gt_config *config, const char *text, char *ret, size_t cap)
{
    size_t n_sign = *text == '+', n = strspn(text + n_sign, "abcdefghijklmnopqrstuvwxyz_.");
    struct gt_span path = gt_span(text + n_sign, n);

    if (n == 0 || text[n_sign + n] != '}')
        return 0;
    return mention_by(config, n_sign ? mention_place : mention, path, ret, cap) ? n_sign + n + 1
                                                                                : 0;
}

const char *gt_config_mention_all(const struct gt_config *config, const char *text, char *ret,
                                  size_t cap)
{
    size_t n = 0;

    while (*text && n + 1 < cap) {
        char value[GT_CONFIG_MENTION];
        size_t n_name = *text == '{' ? expand(config, text + 1, value, sizeof(value)) : 0;

        if (n_name > 0)
            n += (size_t)snprintf(ret + n, cap - n, "%s", value);
        else
            ret[n++] = *text;
        text += n_name + 1;
    }
    ret[GT_MIN(n, cap - 1)] = 0;
    return ret;
}
