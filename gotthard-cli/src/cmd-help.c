/* SPDX-License-Identifier: ISC */
/*
 * `help [COMMAND]` and `--help`: the list of commands, or the usage, the options and an example of
 * one. All of it follows from the tables of commands, options and settings.
 */
#include <stdio.h>
#include <string.h>

#include "command-line.h"

static void print_options(const struct command *command, int fd)
{
    char head[64];

    for (size_t i = 0; i < N_OPTIONS; i++) {
        const struct option *option = &command_line_options[i];
        const char *letter = option->letter, *value = option->value;

        if (!(option->commands & command->bit))
            continue;
        snprintf(head, sizeof(head), "%s%s%s%s%s", letter ? letter : "", letter ? ", " : "",
                 option->name, value && !option_is_optional(option) ? " " : "", value ? value : "");
        dprintf(fd, "  %-30s %s\n", head, option->help);
    }
}

/* All settings for a command that accepts any, else those that have an option for it. */
static void print_settings(const struct command *command, int fd)
{
    dprintf(fd, "\nSettings as options:\n");
    gt_config_help(settings_program(), command->settings == COMMAND_ANY ? 0 : command->settings,
                   fd);
}

static void print_examples(const struct command *command, const char *program, int fd)
{
    const char *at = command->examples;

    dprintf(fd, "\nExample:\n");
    while (*at) {
        size_t n = strcspn(at, "\n");

        dprintf(fd, "  %s %.*s\n", program, (int)n, at);
        at += n + (at[n] == '\n');
    }
}

static void print_command(const struct command *command, const char *program, int fd)
{
    dprintf(fd, "Usage: %s %s [OPTION]...%s%s\n\n%s\n\nOptions:\n", program, command->name,
            *command->usage ? " " : "", command->usage, command->help);
    print_options(command, fd);
    if (command->settings)
        print_settings(command, fd);
    print_examples(command, program, fd);
}

void help_print_commands(const char *program, int fd)
{
    size_t n_commands, n_daemons;
    const struct command *commands = command_table(&n_commands);
    const struct daemon_command *daemons = daemon_table(&n_daemons);

    dprintf(fd, "Usage: %s COMMAND [OPTION]... [ARGUMENT]...\n\nCommands:\n", program);
    for (size_t i = 0; i < n_commands; i++)
        dprintf(fd, "  %s%s%s\n      %s\n", commands[i].name, *commands[i].usage ? " " : "",
                commands[i].usage, commands[i].help);
    for (size_t i = 0; i < n_daemons && strcmp(program, "gotthard") == 0; i++)
        dprintf(fd, "  %s [OPTION]...\n      %s\n", daemons[i].name, daemons[i].help);
    dprintf(fd,
            "\nTry '%s help COMMAND' for the options of a command, and\n'%s help config' for "
            "all settings.\n",
            program, program);
}

int help_print(struct context *context, const struct command *command)
{
    int page = print_page_begin();

    if (command)
        print_command(command, context->program, page);
    else
        help_print_commands(context->program, page);
    print_page_end(&context->print, page);
    return 0;
}

/* Returns true for "show" of `config show`: a word that the usage requires as it is. */
static bool is_part_of_usage(const struct command *command, const char *word)
{
    return strcmp(command->usage, word) == 0;
}

int cmd_help(struct context *context)
{
    const struct command *command = NULL;
    char shown[64];

    if (context->n_arguments > 0) {
        command = command_find(context->arguments[0]);
        if (!command)
            return command_unknown(context, context->arguments[0]);
    }
    if (context->n_arguments > 1 && !is_part_of_usage(command, context->arguments[1]))
        return command_misused(context, "unexpected argument '%s'",
                               gt_text_shorten(context->arguments[1], shown, sizeof(shown)));
    return help_print(context, command);
}
