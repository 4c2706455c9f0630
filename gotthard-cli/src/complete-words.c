/* SPDX-License-Identifier: ISC */
/*
 * The command line is read as command-line.c does it, but without errors: the command reports them
 * when it runs.
 */
#include "complete-words.h"

#include <string.h>

#include "candidates.h"
#include "command-line.h"
#include "device-memory.h"
#include "gotthard/config/config-facts.h"
#include "remembered.h"
#include "usage-slots.h"

#define ARGUMENTS_MAX 66 /* further arguments are not remembered */

/* An option of either table. */
struct choice {
    const struct option *option;
    const struct gt_config_item *item;
};

struct completion {
    const char *program;
    const struct command *command;        /* NULL before it */
    const char *arguments[ARGUMENTS_MAX]; /* of the command */
    size_t n_arguments;
    struct choice pending; /* the option whose argument is at the cursor */
    bool is_words_only;    /* after "--" */
    bool is_daemon;        /* a command of the original tool */
    struct candidates candidates;
};

/* --- options -------------------------------------------------------------------------------- */

/* @name: with its dashes. */
static struct choice find_option(const char *name, size_t n)
{
    const struct gt_config_program *program = settings_table();

    for (size_t i = 0; i < N_OPTIONS; i++) {
        const struct option *option = &command_line_options[i];
        const char *letter = option->letter ? option->letter : "";

        if ((strlen(option->name) == n && memcmp(option->name, name, n) == 0) ||
            (strlen(letter) == n && memcmp(letter, name, n) == 0))
            return (struct choice){.option = option};
    }
    for (size_t i = 0; i < program->n_items && n > 2; i++) {
        const char *flag = program->items[i].flag;

        if (flag && strlen(flag) == n - 2 && memcmp(flag, name + 2, n - 2) == 0)
            return (struct choice){.item = &program->items[i]};
    }
    return (struct choice){0};
}

/* True if the next word is the option's argument. */
static bool takes_word(struct choice choice)
{
    return choice.option ? choice.option->value && !option_is_optional(choice.option)
                         : choice.item && choice.item->type != GT_CONFIG_BOOL;
}

static bool accepts(const struct completion *completion, uint32_t commands)
{
    if (completion->command)
        return commands & completion->command->bit;
    return commands == COMMAND_ANY;
}

static void add_settings(struct completion *completion)
{
    const struct gt_config_program *program = settings_table();
    const struct command *command = completion->command;
    bool is_negative = strncmp(completion->candidates.current, "--no-", 5) == 0;

    for (size_t i = 0; i < program->n_items && command && command->settings; i++) {
        const struct gt_config_item *item = &program->items[i];
        char name[GT_CONFIG_PATH_MAX + 6];

        if (!item->flag || !gt_configfacts_is_accepted(item, command->settings))
            continue;
        snprintf(name, sizeof(name), "--%s", item->flag);
        candidates_add(&completion->candidates, name, strlen(name), item->help);
        snprintf(name, sizeof(name), "--no-%s", item->flag);
        if (is_negative && item->type == GT_CONFIG_BOOL)
            candidates_add(&completion->candidates, name, strlen(name), item->help);
    }
}

static void add_options(struct completion *completion)
{
    for (size_t i = 0; i < N_OPTIONS; i++) {
        const struct option *option = &command_line_options[i];

        if (accepts(completion, option->commands))
            candidates_add(&completion->candidates, option->name, strlen(option->name),
                           option->help);
    }
    add_settings(completion);
}

/* --- devices and services ------------------------------------------------------------------- */

static void add_device(void *userdata, const char *device, const char *words)
{
    struct completion *completion = userdata;

    candidates_add(&completion->candidates, device, strlen(device), NULL);
}

static bool is_argument(const struct completion *completion, const char *word)
{
    const char *at = strchr(word, '@');

    for (size_t i = 0; i < completion->n_arguments; i++)
        if (strcmp(completion->arguments[i], word) == 0 ||
            (at && strcmp(completion->arguments[i], at + 1) == 0))
            return true;
    return false;
}

/* The services of the device that is an argument before the cursor. */
static void add_services_of(void *userdata, const char *device, const char *words)
{
    struct completion *completion = userdata;

    if (!is_argument(completion, device))
        return;
    for (size_t n; (n = remembered_next(&words, REMEMBERED_SERVICES)) > 0; words += n)
        candidates_add(&completion->candidates, words, n, "service of the device");
}

/* "site=zurich" */
static void add_tags(void *userdata, const char *device, const char *words)
{
    struct completion *completion = userdata;

    for (size_t n; (n = remembered_next(&words, REMEMBERED_TAGS)) > 0; words += n)
        candidates_add(&completion->candidates, words, n, "tag");
}

/* "ssh", "8080:web". With a slash it may be the path of a socket. */
static void add_services(struct completion *completion)
{
    const char *current = completion->candidates.current, *colon = strrchr(current, ':');
    char lead[64] = "";

    completion->candidates.is_file = strchr(current, '/') != NULL;
    if (colon && (size_t)(colon - current) < sizeof(lead) - 1)
        snprintf(lead, sizeof(lead), "%.*s", (int)(colon - current + 1), current);
    completion->candidates.lead = lead;
    device_memory_each(add_services_of, completion);
    completion->candidates.lead = "";
}

/* --- arguments ------------------------------------------------------------------------------ */

static void add_commands(struct completion *completion)
{
    size_t n_commands, n_daemons;
    const struct command *commands = command_table(&n_commands);
    const struct daemon_command *daemons = daemon_table(&n_daemons);

    for (size_t i = 0; i < n_commands; i++)
        candidates_add(&completion->candidates, commands[i].name, strlen(commands[i].name),
                       commands[i].help);
    for (size_t i = 0; i < n_daemons && strcmp(completion->program, "gotthard") == 0; i++)
        candidates_add(&completion->candidates, daemons[i].name, strlen(daemons[i].name),
                       daemons[i].help);
}

/* "user@" before a device. */
static void add_devices(struct completion *completion)
{
    const char *current = completion->candidates.current, *at = strchr(current, '@');
    const char *usage = completion->command ? completion->command->usage : "";
    char lead[64] = "";

    if (at && strstr(usage, "@]DEVICE") && (size_t)(at - current) < sizeof(lead) - 1)
        snprintf(lead, sizeof(lead), "%.*s", (int)(at - current + 1), current);
    completion->candidates.lead = lead;
    device_memory_each(add_device, completion);
    completion->candidates.lead = "";
}

/* Tags, names and patterns. */
static void add_selection(struct completion *completion)
{
    device_memory_each(add_tags, completion);
    device_memory_each(add_device, completion);
}

static void add_slot(void *userdata, enum usage_slot slot, const char *word, size_t n)
{
    struct completion *completion = userdata;

    if (word) {
        candidates_add(&completion->candidates, word, n, NULL);
        return;
    }
    switch (slot) {
    case USAGE_NONE:
    case USAGE_FREE:
    case USAGE_REST: return;
    case USAGE_DEVICE: add_devices(completion); return;
    case USAGE_SERVICE: add_services(completion); return;
    case USAGE_TAG: device_memory_each(add_tags, completion); return;
    case USAGE_COMMAND: add_commands(completion); return;
    }
}

static void note_rest(void *userdata, enum usage_slot slot, const char *word, size_t n)
{
    bool *is_rest = userdata;

    *is_rest |= slot == USAGE_REST;
}

/* True after the arguments whose followers belong to another program. */
static bool is_rest(const struct completion *completion)
{
    bool ret = false;

    if (completion->n_arguments > 0)
        usage_slots(completion->command->usage, completion->arguments, completion->n_arguments,
                    note_rest, &ret);
    return ret;
}

/* --- the argument of an option -------------------------------------------------------------- */

static void add_choices(struct completion *completion, const char *choices)
{
    while (*(choices += strspn(choices, " "))) {
        size_t n = strcspn(choices, " ");

        candidates_add(&completion->candidates, choices, n, NULL);
        choices += n;
    }
}

static void add_values_of_item(struct completion *completion, const struct gt_config_item *item)
{
    if (item->type == GT_CONFIG_CHOICE)
        add_choices(completion, item->choices);
    else if (item->type == GT_CONFIG_BOOL)
        add_choices(completion, "false true");
    else if (item->type == GT_CONFIG_PATH || item->type == GT_CONFIG_PATHS)
        completion->candidates.is_file = true;
}

static void add_values(struct completion *completion, struct choice choice)
{
    const char *value = choice.option ? choice.option->value : NULL;

    if (choice.item)
        add_values_of_item(completion, choice.item);
    else if (value && (strcmp(value, "FILE") == 0 || strcmp(value, "PATH") == 0))
        completion->candidates.is_file = true;
    else if (value && strcmp(value, "DEVICE") == 0)
        device_memory_each(add_device, completion);
    else if (value && strcmp(value, "SELECTION") == 0)
        add_selection(completion);
}

/* "--log-level=de" */
static void add_values_after_sign(struct completion *completion, const char *sign)
{
    const char *current = completion->candidates.current;
    char lead[64];

    if ((size_t)(sign - current) >= sizeof(lead) - 1)
        return;
    snprintf(lead, sizeof(lead), "%.*s", (int)(sign - current + 1), current);
    completion->candidates.lead = lead;
    add_values(completion, find_option(current, (size_t)(sign - current)));
    completion->candidates.lead = "";
}

/* --- the command line ----------------------------------------------------------------------- */

static void take_word(struct completion *completion, const char *word)
{
    if (completion->command) {
        if (completion->n_arguments < ARGUMENTS_MAX)
            completion->arguments[completion->n_arguments++] = word;
        return;
    }
    completion->command = command_find(word);
    completion->is_daemon = daemon_find(word) != NULL || !completion->command;
}

static void take(struct completion *completion, const char *word)
{
    bool is_option = !completion->is_words_only && word[0] == '-' && word[1];

    if (takes_word(completion->pending)) {
        completion->pending = (struct choice){0};
    } else if (is_option && strcmp(word, "--") == 0) {
        completion->is_words_only = true;
    } else if (is_option) {
        completion->pending = find_option(word, strlen(word));
    } else {
        take_word(completion, word);
        completion->is_words_only |= is_rest(completion);
    }
}

static void add_at_cursor(struct completion *completion)
{
    const char *current = completion->candidates.current, *sign = strchr(current, '=');
    bool is_option = !completion->is_words_only && current[0] == '-';

    if (completion->is_daemon)
        return;
    if (takes_word(completion->pending))
        add_values(completion, completion->pending);
    else if (is_option && sign)
        add_values_after_sign(completion, sign);
    else if (is_option)
        add_options(completion);
    else if (!completion->command)
        add_commands(completion);
    else
        usage_slots(completion->command->usage, completion->arguments, completion->n_arguments,
                    add_slot, completion);
}

void complete_words(int n_words, char **words, int fd)
{
    if (n_words < 2)
        return;
    struct completion completion = {
        .program = words[0],
        .candidates = {.current = words[n_words - 1], .lead = ""},
    };

    for (int i = 1; i < n_words - 1; i++)
        take(&completion, words[i]);
    add_at_cursor(&completion);
    candidates_print(&completion.candidates, fd);
    candidates_deinit(&completion.candidates);
}
