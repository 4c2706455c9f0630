/* SPDX-License-Identifier: ISC */
/*
 * Pure functions of a row. The texts must not depend on the machine that they are generated on.
 */
#include "gotthard/config/config-facts.h"

#include <stdio.h>
#include <string.h>

#include "gotthard/config/config-value.h"

const char *gt_configfacts_value_word(enum gt_config_type type)
{
    switch (type) {
    case GT_CONFIG_STRING: return "TEXT";
    case GT_CONFIG_NAME: return "NAME";
    case GT_CONFIG_HOST: return "HOST";
    case GT_CONFIG_PATH: return "PATH";
    case GT_CONFIG_PATHS: return "PATHS";
    case GT_CONFIG_SECRET: return "SECRET";
    case GT_CONFIG_PROXY: return "URL";
    case GT_CONFIG_NUMBER: return "N";
    case GT_CONFIG_BOOL: return "";
    case GT_CONFIG_DURATION: return "TIME";
    case GT_CONFIG_SIZE: return "SIZE";
    case GT_CONFIG_CHOICE: return "WORD";
    case GT_CONFIG_MAP: return "GROUP";
    }
    return "";
}

const char *gt_configfacts_default(const struct gt_config_item *item)
{
    if (item->fallback_help)
        return item->fallback_help;
    return item->fallback && *item->fallback ? item->fallback : NULL;
}

const char *gt_configfacts_form(const struct gt_config_item *item, char *ret, size_t cap)
{
    char form[128];
    const char *fallback = gt_configfacts_default(item);

    snprintf(ret, cap, "%s%s%s", gt_configvalue_form(item, form, sizeof(form)),
             fallback ? ", default " : ", no default", fallback ? fallback : "");
    return ret;
}

size_t gt_configfacts_group_length(const struct gt_config_item *item)
{
    const char *point = strchr(item->path, '.');

    return point ? (size_t)(point - item->path) : 0;
}

bool gt_configfacts_is_same_group(const struct gt_config_item *a, const struct gt_config_item *b)
{
    size_t n = gt_configfacts_group_length(a);

    return n > 0 && n == gt_configfacts_group_length(b) && memcmp(a->path, b->path, n) == 0;
}

bool gt_configfacts_is_first(const struct gt_config_program *program, size_t at)
{
    for (size_t i = 0; i < at; i++)
        if (gt_configfacts_is_same_group(&program->items[i], &program->items[at]))
            return false;
    return true;
}

const char *gt_configfacts_group_help(const struct gt_config_program *program,
                                      const struct gt_config_item *item)
{
    for (size_t i = 0; i < program->n_groups; i++) {
        const char *name = program->groups[i].name;

        if (strlen(name) == gt_configfacts_group_length(item) &&
            memcmp(name, item->path, strlen(name)) == 0)
            return program->groups[i].help;
    }
    return "";
}

bool gt_configfacts_is_accepted(const struct gt_config_item *item, uint32_t commands)
{
    return !commands || !item->commands || (item->commands & commands);
}
