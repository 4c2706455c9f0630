/* SPDX-License-Identifier: ISC */
/*
 * The table of options that do not stand for a setting, and the callbacks of the parser in
 * config-args.c.
 */
#include "command-line.h"

#include <string.h>

#define PRINTS_JSON                                                                             \
    (COMMAND_CONNECT | COMMAND_DISCONNECT | COMMAND_STATUS | COMMAND_DEVICES | COMMAND_FORGET | \
     COMMAND_VERSION | COMMAND_DOCTOR | COMMAND_SESSIONS | COMMAND_RUN | COMMAND_ACCESS |       \
     COMMAND_REVOKE | COMMAND_ENROLL)

const struct option command_line_options[N_OPTIONS] = {
    [OPTION_JSON] = {"--json", NULL, NULL, "Print JSON for programs on standard output.",
                     PRINTS_JSON},
    [OPTION_PRINT_PORT] = {"--print-port", NULL, NULL,
                           "Print the local ports once the tunnel is up.", COMMAND_CONNECT},
    [OPTION_BIND] = {"--bind", NULL, "ADDRESS",
                     "Listen on this address (* for all) instead of loopback.", COMMAND_CONNECT},
    [OPTION_SOCKET] = {"--socket", NULL, "PATH",
                       "Listen on this Unix socket, of mode 0600, instead of a port.",
                       COMMAND_CONNECT},
    [OPTION_SOCKS] = {"--socks", "-D", "[BIND:]PORT",
                      "Listen here for SOCKS5 clients, which name hosts behind the device.",
                      COMMAND_CONNECT},
    [OPTION_ONLINE] = {"--online", NULL, NULL, "List only devices that are online.",
                       COMMAND_DEVICES},
    [OPTION_WATCH] = {"--watch", NULL, NULL, "Keep running and print each change until Ctrl+C.",
                      COMMAND_DEVICES},
    [OPTION_INVENTORY] = {"--inventory", NULL, NULL,
                          "Print a dynamic inventory for Ansible, with a group for each tag.",
                          COMMAND_DEVICES},
    [OPTION_ON] = {"--on", NULL, "SELECTION",
                   "Run it on these devices: TAG=VALUE, a name or a pattern; may repeat.",
                   COMMAND_RUN},
    [OPTION_USER] = {"--user", NULL, "USER", "Log in as this user.", COMMAND_RUN},
    [OPTION_FORKS] = {"--forks", NULL, "N", "Run it on this many devices at a time; 5 by default.",
                      COMMAND_RUN},
    [OPTION_FOR] = {"--for", NULL, "TIME", "The token can be used for this time; 1h by default.",
                    COMMAND_ENROLL},
    [OPTION_OPERATOR] = {"--operator", NULL, NULL, "Enrol an operator, not a device.",
                         COMMAND_ENROLL},
    [OPTION_NEW_RELAY] = {"--new-relay", NULL, NULL, "Enrol a further relay, not a device.",
                          COMMAND_ENROLL},
    [OPTION_FINGERPRINT] = {"--fingerprint", NULL, "FINGERPRINT",
                            "Accept the newcomer with this fingerprint, without a question.",
                            COMMAND_ENROLL},
    [OPTION_REPLACE] = {"--replace", NULL, NULL,
                        "Replace the key of a name that the access list has.",
                        COMMAND_ENROLL | COMMAND_ADD},
    [OPTION_QR] = {"--qr", NULL, NULL, "Show the token as a QR code on the terminal as well.",
                   COMMAND_ENROLL},
    [OPTION_OUTPUT] = {"--output", NULL, "FILE", "Write the bundle to this new file.", COMMAND_ADD},
    [OPTION_FORCE] = {"--force", NULL, NULL, "Replace the identity of an earlier enrolment.",
                      COMMAND_JOIN},
    [OPTION_YES] = {"--yes", "-y", NULL, "Do it without a question.",
                    COMMAND_FORGET | COMMAND_ACCESS | COMMAND_ENROLL},
    [OPTION_DEVICE] = {"--device", NULL, NULL, "Revoke the device of this name, not an operator.",
                       COMMAND_REVOKE},
    [OPTION_ALL] = {"--all", NULL, NULL, "Close the sessions of all operators, not only your own.",
                    COMMAND_DISCONNECT},
    [OPTION_REASON] = {"--reason", NULL, "TEXT",
                       "Write this into the device's log; a waiting operator reads it as well.",
                       COMMAND_CONNECT | COMMAND_PROXY | COMMAND_DISCONNECT | COMMAND_SSH |
                           COMMAND_RUN | COMMAND_SSH_CONFIG | COMMAND_KNOWN_HOSTS},
    [OPTION_WAIT] = {"--wait", NULL, "[=TIME]",
                     "Wait until the device is online and not busy, at most TIME (1h).",
                     COMMAND_CONNECT},
    [OPTION_BACKGROUND] = {"--background", NULL, NULL,
                           "Continue in the background once the tunnel is up.", COMMAND_CONNECT},
    [OPTION_CONFIG] = {"--config", NULL, "FILE", "Read this file instead of the default ones.",
                       COMMAND_ANY & ~(COMMAND_COMPLETION | COMMAND_VERSION | COMMAND_HELP |
                                       COMMAND_SESSIONS)},
    [OPTION_QUIET] = {"--quiet", "-q", NULL, "Print errors only.", COMMAND_ANY},
    [OPTION_NO_COLOR] = {"--no-color", NULL, NULL,
                         "Print without colors; the variable NO_COLOR does the same.", COMMAND_ANY},
    [OPTION_HELP] = {"--help", "-h", NULL, "Print this help and exit.", COMMAND_ANY},
    [OPTION_VERSION] = {"--version", "-V", NULL, "Print the version and exit.", COMMAND_ANY},
};

/* The command of this line, if it was seen. */
bool option_is_optional(const struct option *option)
{
    return option->value && strncmp(option->value, "[=", 2) == 0;
}

static const struct command *line_command(const struct command_line *line)
{
    return line->n_arguments > 0 ? command_find(line->arguments[0]) : NULL;
}

bool command_line_takes_value(const char *letters, const char *option)
{
    for (const char *at = option + 1; *at; at++)
        if (strchr(letters, *at))
            return at[1] == 0;
    return false;
}

/* An option of the program that the command executes, or its value. */
static int pass(struct command_line *line, const char *letters, const char *name, const char *value,
                bool *ret_takes_value)
{
    if (!letters || name[1] == '-')
        return 1;
    line->passed[line->n_passed++] = (char *)(value ? value : name);
    if (!value)
        *ret_takes_value = command_line_takes_value(letters, name);
    return 0;
}

static int on_option(void *userdata, const char *name, const char *value, bool *ret_takes_value)
{
    struct command_line *line = userdata;
    const struct command *command = line_command(line);
    const char *letters = command ? command->passed_letters : NULL;

    for (size_t i = 0; i < N_OPTIONS; i++) {
        const struct option *option = &command_line_options[i];
        bool is_letter = option->letter && strcmp(name, option->letter) == 0 &&
                         (!letters || (option->commands & command->bit));

        if (!is_letter && strcmp(name, option->name) != 0)
            continue;
        if (ret_takes_value)
            *ret_takes_value = option->value && !option_is_optional(option);
        if (!option->value || value || option_is_optional(option))
            line->given[i] = value ? value : "";
        if (i == OPTION_ON && value)
            line->on[line->n_on++] = value;
        return 0;
    }
    return pass(line, letters, name, value, ret_takes_value);
}

/* The arguments of another program begin after the first one of the command. */
static int on_argument(void *userdata, const char *argument)
{
    struct command_line *line = userdata;

    line->arguments[line->n_arguments++] = (char *)argument;
    const struct command *command = line_command(line);
    bool is_last = command && command->passed_letters && line->n_arguments > 1;
    return is_last ? GT_CONFIG_WORDS_ONLY : 0;
}

int command_line_parse(int argc, char **argv, struct command_line *ret,
                       char ret_error[static GT_CONFIG_ERROR_MAX])
{
    struct gt_config_parse parse = {
        .program = settings_program(),
        .other = on_option,
        .word = on_argument,
        .userdata = ret,
        .optional = command_line_options[OPTION_WAIT].name,
    };

    *ret = (struct command_line){
        .arguments = calloc((size_t)argc + 1, sizeof(*ret->arguments)),
        .passed = calloc((size_t)argc + 1, sizeof(*ret->passed)),
        .on = calloc((size_t)argc + 1, sizeof(*ret->on)),
    };
    if (!ret->arguments || !ret->passed || !ret->on)
        return -ENOMEM;
    int r = gt_config_parse_args(&parse, argc, argv, &ret->settings, ret_error);
    if (r == 0)
        ret->given[OPTION_CONFIG] = ret->settings.file;
    return r;
}

void command_line_deinit(struct command_line *line)
{
    free((void *)line->settings.sets);
    free(line->arguments);
    free(line->passed);
    free((void *)line->on);
    line->on = NULL;
    line->arguments = line->passed = NULL;
    line->settings.sets = NULL;
}

const char *command_line_foreign_option(const struct command_line *line,
                                        const struct command *command)
{
    for (size_t i = 0; i < N_OPTIONS; i++)
        if (line->given[i] && !(command_line_options[i].commands & command->bit))
            return command_line_options[i].name + strlen("--");
    if (command->settings)
        return gt_config_foreign_flag(settings_program(), &line->settings, command->settings);
    return line->settings.n_sets > 0 ? line->settings.sets[0] : NULL;
}
