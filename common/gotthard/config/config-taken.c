/* SPDX-License-Identifier: ISC */
/*
 * Secrets in variables are moved out of the environment and kept for the next load; see the header.
 * A secret must never stay in the environment, whatever else fails.
 */
#include "gotthard/config/config-taken.h"

#include "gotthard/config/config-value.h"
#include "gotthard/crypto/crypto.h"

/* A secret that was taken out of the environment, kept for the next load. */
struct taken {
    struct taken *next;
    char *variable, *text;
};
static struct taken *taken_first;

static struct taken *taken_find(const char *variable)
{
    struct taken *taken = taken_first;

    while (taken && strcmp(taken->variable, variable) != 0)
        taken = taken->next;
    return taken;
}

static struct taken *taken_new(const char *variable)
{
    struct taken *taken = calloc(1, sizeof(*taken));
    char *name = strdup(variable);

    if (!taken || !name) {
        free(taken);
        free(name);
        return NULL;
    }
    taken->variable = name;
    taken->next = taken_first;
    taken_first = taken;
    return taken;
}

int gt_config_keep_taken(const char *variable, const char *text)
{
    char *copy = strdup(text);
    struct taken *taken = taken_find(variable);

    if (!taken)
        taken = taken_new(variable);
    if (!copy || !taken) {
        gt_configvalue_forget(copy);
        return -ENOMEM;
    }
    gt_configvalue_forget(taken->text);
    taken->text = copy;
    return 0;
}

void gt_config_each_taken(gt_config_taken_fn on_taken, void *userdata)
{
    for (const struct taken *taken = taken_first; taken; taken = taken->next)
        if (taken->text)
            on_taken(userdata, taken->variable, taken->text);
}

/* Moves the variable out of the environment. It is unset even on failure. */
static int take_variable(const char *variable)
{
    char *value = getenv(variable);

    if (!value)
        return 0;
    int r = gt_config_keep_taken(variable, value);
    gt_wipe(value, strlen(value));
    unsetenv(variable);
    return r;
}

void gt_configtaken_forget(void)
{
    for (struct taken *taken; (taken = gt_steal(&taken_first));) {
        taken_first = taken->next;
        gt_configvalue_forget(taken->text);
        free(taken->variable);
        free(taken);
    }
}

int gt_configtaken_take(const struct gt_config_program *program)
{
    char variable[GT_CONFIG_VARIABLE_MAX];
    int r = 0;

    for (size_t i = 0; i < program->n_items; i++) {
        if (program->items[i].type != GT_CONFIG_SECRET)
            continue;
        gt_config_variable(&program->items[i], variable);
        int taken = take_variable(variable);
        r = r ? r : taken;
    }
    return r;
}

const char *gt_configtaken_find(const char *variable)
{
    const struct taken *taken = taken_find(variable);

    return taken ? taken->text : NULL;
}
