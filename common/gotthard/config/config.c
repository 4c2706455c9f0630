/* SPDX-License-Identifier: ISC */
/*
 * A loaded configuration. Every layer gives texts to the items of the table, and the last one wins.
 * All texts are kept with their origins, so that `--check-config` can show overridden values. All
 * of them are checked. A configuration that contains an error must never be handed out.
 */
#include "gotthard/config/config.h"

#include <stdio.h>

#include "gotthard/config/config-layers.h"
#include "gotthard/config/config-mention.h"
#include "gotthard/config/config-private.h"
#include "gotthard/config/config-taken.h"
#include "gotthard/config/config-value.h"
#include "gotthard/crypto/crypto.h"

static void assignment_deinit(struct gt_config_assignment *assignment)
{
    gt_configvalue_forget(assignment->text);
    free(assignment->origin);
    free(assignment->file);
}

int gt_config_assign(struct gt_config *config, const struct gt_config_item *item,
                     const struct gt_config_given *given, char *ret_error)
{
    struct gt_config_assignments *assignments = &config->assignments[item - config->program->items];

    if (!*given->text && (gt_configvalue_is_string(item->type) || item->fallback_help))
        return 0;
    if (given->is_standard && !gt_configvalue_is_usable(item, given->text)) {
        assignments->unusable = strdup(given->origin);
        return assignments->unusable ? 0 : -ENOMEM;
    }
    if (assignments->n && assignments->all[assignments->n - 1].layer == config->layer)
        return gt_configvalue_bad(ret_error, "%s: %s is given twice (first at %s); remove one",
                                  given->origin, item->path,
                                  assignments->all[assignments->n - 1].origin);

    struct gt_config_assignment *all =
        reallocarray(assignments->all, assignments->n + 1, sizeof(*all));
    if (!all)
        return -ENOMEM;
    assignments->all = all;
    struct gt_config_assignment assignment = {strdup(given->text), strdup(given->origin),
                                              given->file ? strdup(given->file) : NULL,
                                              config->layer, given->is_standard};
    if (!assignment.text || !assignment.origin || (given->file && !assignment.file)) {
        assignment_deinit(&assignment);
        return -ENOMEM;
    }
    assignments->all[assignments->n++] = assignment;
    return 0;
}

static void mark_proxy(const struct gt_config_item *item, void *settings,
                       const struct gt_config_assignments *assignments)
{
    struct gt_config_proxy *proxy = (void *)((char *)settings + item->offset);
    size_t n = assignments->n;

    proxy->is_shared = n > 0 && assignments->all[n - 1].is_standard;
    proxy->unusable = assignments->unusable;
}

/* Checks and applies all given texts in order, so that the last one stays. */
static int config_apply(struct gt_config *config, char *ret_error)
{
    int r = 0;

    for (size_t i = 0; i < config->program->n_items; i++) {
        const struct gt_config_item *item = &config->program->items[i];
        const struct gt_config_assignments *assignments = &config->assignments[i];
        bool has_no_default =
            !item->fallback || (!*item->fallback && gt_configvalue_is_string(item->type));

        if (!has_no_default)
            r = gt_configvalue_set(item, config->settings, item->fallback, "default", ret_error);
        for (size_t j = 0; j < assignments->n && r == 0; j++)
            r = gt_configvalue_set(item, config->settings, assignments->all[j].text,
                                   assignments->all[j].origin, ret_error);
        if (item->type == GT_CONFIG_PROXY)
            mark_proxy(item, config->settings, assignments);
        if (r != 0)
            return r;
    }
    return 0;
}

static int config_check(struct gt_config *config, char *ret_error)
{
    char why[256] = "", complete[GT_CONFIG_ERROR_MAX];

    if (!config->program->check)
        return 0;
    const char *path = config->program->check(config->settings, why, sizeof(why));
    return path ? gt_configvalue_bad(ret_error, "%s: %s: %s", gt_config_origin(config, path), path,
                                     gt_config_mention_all(config, why, complete, sizeof(complete)))
                : 0;
}

void gt_config_begin_layer(struct gt_config *config)
{
    config->layer++;
}

static struct gt_config *config_new(const struct gt_config_program *program)
{
    struct gt_config *config = calloc(1, sizeof(*config));

    if (!config)
        return NULL;
    config->program = program;
    config->settings = calloc(1, program->settings_size);
    config->assignments = calloc(program->n_items, sizeof(*config->assignments));
    return config->settings && config->assignments ? config : gt_config_free(config);
}

/* @config: takes, after its layers were added with the result @r. */
static int config_complete(struct gt_config *config, int r, struct gt_config **ret, char *ret_error)
{
    if (r == 0)
        r = config_apply(config, ret_error);
    if (r == 0)
        r = config_check(config, ret_error);
    if (r != 0) {
        gt_config_free(config);
        return r;
    }
    *ret = config;
    return 0;
}

int gt_config_load(const struct gt_config_program *program, const struct gt_config_args *args,
                   struct gt_config **ret, char ret_error[static GT_CONFIG_ERROR_MAX])
{
    struct gt_config *config = config_new(program);

    if (!config)
        return -ENOMEM;
    if (args && args->file)
        config->file = strdup(args->file);
    int r = gt_configlayers_add(config, program, args, ret_error);
    return config_complete(config, r, ret, ret_error);
}

int gt_config_load_saved(const struct gt_config_program *program, const char *name,
                         struct gt_span text, struct gt_config **ret,
                         char ret_error[static GT_CONFIG_ERROR_MAX])
{
    struct gt_config *config = config_new(program);

    if (!config)
        return -ENOMEM;
    int r = gt_configlayers_add_saved(config, program, name, text, ret_error);
    return config_complete(config, r, ret, ret_error);
}

struct gt_config *gt_config_free(struct gt_config *config)
{
    if (!config)
        return NULL;
    for (size_t i = 0; i < config->program->n_items; i++) {
        if (config->settings)
            gt_configvalue_unset(&config->program->items[i], config->settings);
        for (size_t j = 0; config->assignments && j < config->assignments[i].n; j++)
            assignment_deinit(&config->assignments[i].all[j]);
        if (config->assignments) {
            free(config->assignments[i].all);
            free(config->assignments[i].unusable);
        }
    }
    free(config->settings);
    free(config->assignments);
    free(config->file);
    free(config);
    return NULL;
}

/* Empties the text instead of freeing it: whether a secret is set is shown. */
static void wipe_text(char *text)
{
    if (text)
        gt_wipe(text, strlen(text));
}

void gt_config_forget_secrets(struct gt_config *config)
{
    for (size_t i = 0; i < config->program->n_items; i++) {
        const struct gt_config_item *item = &config->program->items[i];

        if (item->type != GT_CONFIG_SECRET && item->type != GT_CONFIG_PROXY)
            continue;
        wipe_text(*(char **)(void *)((char *)config->settings + item->offset));
        for (size_t j = 0; j < config->assignments[i].n; j++)
            wipe_text(config->assignments[i].all[j].text);
    }
    gt_configtaken_forget();
}

const void *gt_config_settings(const struct gt_config *config)
{
    return config->settings;
}

/* Returns the last given text, or NULL if the setting has its default. */
static const struct gt_config_assignment *config_winner(const struct gt_config *config,
                                                        const char *path)
{
    for (size_t i = 0; i < config->program->n_items; i++) {
        const struct gt_config_assignments *assignments = &config->assignments[i];

        if (strcmp(config->program->items[i].path, path) == 0)
            return assignments->n ? &assignments->all[assignments->n - 1] : NULL;
    }
    return NULL;
}

bool gt_config_is_set(const struct gt_config *config, const char *path)
{
    return config_winner(config, path) != NULL;
}

const char *gt_config_origin(const struct gt_config *config, const char *path)
{
    const struct gt_config_assignment *winner = config_winner(config, path);

    return winner ? winner->origin : "default";
}

int gt_config_fault(const struct gt_config *config, const char *path)
{
    const struct gt_config_assignment *winner = config_winner(config, path);

    return winner && winner->file ? GT_CONFIG_E_FILE : GT_CONFIG_E_BAD;
}
