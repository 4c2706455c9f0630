/* SPDX-License-Identifier: ISC */
/*
 * A loaded configuration: every layer gives texts to the items of the table, the last one given
 * wins, and all are kept with where they came from, so that `--check-config` can show what hides
 * what. Everything given is judged, also what is hidden. It must never hand out a configuration
 * that is only half right.
 */
#include "gotthard/config.h"

#include <stdio.h>

#include "gotthard/configlayers.h"
#include "gotthard/configvalue.h"
#include "gotthard/crypto.h"

/* What one layer says of one item. */
struct given {
    char *text, *origin;
    unsigned layer;
};

struct gives {
    struct given *all; /* the last one wins */
    size_t n;
};

struct gt_config {
    const struct gt_config_program *program;
    void *settings;
    struct gives *gives; /* one an item */
    unsigned layer;      /* the one that gives now */
};

int gt_config_give(struct gt_config *config, const struct gt_config_item *item, const char *text,
                   const char *origin, char *ret_error)
{
    struct gives *gives = &config->gives[item - config->program->items];
    if (!*text && gt_configvalue_is_string(item->type))
        return 0;
    if (gives->n && gives->all[gives->n - 1].layer == config->layer)
        return gt_configvalue_bad(ret_error, "%s: %s is given twice, also by %s; keep one", origin,
                                  item->path, gives->all[gives->n - 1].origin);

    struct given *all = reallocarray(gives->all, gives->n + 1, sizeof(*all));
    if (!all)
        return -ENOMEM;
    gives->all = all;
    struct given given = {strdup(text), strdup(origin), config->layer};
    if (!given.text || !given.origin) {
        gt_configvalue_forget(given.text);
        free(given.origin);
        return -ENOMEM;
    }
    gives->all[gives->n++] = given;
    return 0;
}

/* Judges all that was given, in order, so that the last one stays. */
static int config_settle(struct gt_config *config, char *ret_error)
{
    int r = 0;
    for (size_t i = 0; i < config->program->n_items; i++) {
        const struct gt_config_item *item = &config->program->items[i];
        const struct gives *gives = &config->gives[i];
        bool is_nothing =
            !item->fallback || (!*item->fallback && gt_configvalue_is_string(item->type));
        if (!is_nothing)
            r = gt_configvalue_set(item, config->settings, item->fallback, "default", ret_error);
        for (size_t j = 0; j < gives->n && r == 0; j++)
            r = gt_configvalue_set(item, config->settings, gives->all[j].text, gives->all[j].origin,
                                   ret_error);
        if (r != 0)
            return r;
    }
    return 0;
}

static int config_check(struct gt_config *config, char *ret_error)
{
    char why[256] = "";
    if (!config->program->check)
        return 0;
    const char *path = config->program->check(config->settings, why, sizeof(why));
    return path ? gt_configvalue_bad(ret_error, "%s: %s: %s", gt_config_origin(config, path), path,
                                     why)
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
    config->gives = calloc(program->n_items, sizeof(*config->gives));
    return config->settings && config->gives ? config : gt_config_free(config);
}

int gt_config_load(const struct gt_config_program *program, const struct gt_config_args *args,
                   struct gt_config **ret, char ret_error[static GT_CONFIG_ERROR_MAX])
{
    struct gt_config *config = config_new(program);
    if (!config)
        return -ENOMEM;
    int r = gt_configlayers_add(config, program, args, ret_error);
    if (r == 0)
        r = config_settle(config, ret_error);
    if (r == 0)
        r = config_check(config, ret_error);
    if (r != 0) {
        gt_config_free(config);
        return r;
    }
    *ret = config;
    return 0;
}

struct gt_config *gt_config_free(struct gt_config *config)
{
    if (!config)
        return NULL;
    for (size_t i = 0; i < config->program->n_items; i++) {
        if (config->settings)
            gt_configvalue_unset(&config->program->items[i], config->settings);
        for (size_t j = 0; config->gives && j < config->gives[i].n; j++) {
            gt_configvalue_forget(config->gives[i].all[j].text);
            free(config->gives[i].all[j].origin);
        }
        if (config->gives)
            free(config->gives[i].all);
    }
    free(config->settings);
    free(config->gives);
    free(config);
    return NULL;
}

/* Emptied rather than freed: that a secret was given is no secret. */
static void wipe_text(char *text)
{
    if (text)
        gt_wipe(text, strlen(text));
}

void gt_config_forget_secrets(struct gt_config *config)
{
    for (size_t i = 0; i < config->program->n_items; i++) {
        const struct gt_config_item *item = &config->program->items[i];
        if (item->type != GT_CONFIG_SECRET)
            continue;
        wipe_text(*(char **)(void *)((char *)config->settings + item->offset));
        for (size_t j = 0; j < config->gives[i].n; j++)
            wipe_text(config->gives[i].all[j].text);
    }
    gt_configlayers_forget_taken();
}

const void *gt_config_settings(const struct gt_config *config)
{
    return config->settings;
}

/* The one that won, or NULL when the default stands. */
static const struct given *config_winner(const struct gt_config *config, const char *path)
{
    for (size_t i = 0; i < config->program->n_items; i++) {
        const struct gives *gives = &config->gives[i];
        if (strcmp(config->program->items[i].path, path) == 0)
            return gives->n ? &gives->all[gives->n - 1] : NULL;
    }
    return NULL;
}

bool gt_config_is_set(const struct gt_config *config, const char *path)
{
    return config_winner(config, path) != NULL;
}

const char *gt_config_origin(const struct gt_config *config, const char *path)
{
    const struct given *winner = config_winner(config, path);
    return winner ? winner->origin : "default";
}

static const char *shown(const struct gt_config_item *item, const char *text, char *ret, size_t cap)
{
    if (item->type == GT_CONFIG_SECRET)
        return text ? "set" : "unset";
    return text ? gt_text_escape(gt_span_text(text), ret, cap) : "";
}

void gt_config_show(const struct gt_config *config, int fd)
{
    char value[512];
    for (size_t i = 0; i < config->program->n_items; i++) {
        const struct gt_config_item *item = &config->program->items[i];
        const struct gives *gives = &config->gives[i];
        size_t n = gives->n;
        dprintf(fd, "%s = %s   # %s\n", item->path,
                shown(item, n ? gives->all[n - 1].text : item->fallback, value, sizeof(value)),
                n ? gives->all[n - 1].origin : "default");
        for (size_t j = n; j-- > 1;)
            dprintf(fd, "#   hides %s   # %s\n",
                    shown(item, gives->all[j - 1].text, value, sizeof(value)),
                    gives->all[j - 1].origin);
    }
}
