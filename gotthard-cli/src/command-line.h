/* SPDX-License-Identifier: ISC */
/*
 * The command line: which options there are, which commands accept them, and which were given.
 * Options that stand for a setting come from the table in settings.c. Pure text: nothing is printed
 * and nothing is loaded here.
 */
#pragma once

#include "commands.h"

enum option_id {
    OPTION_JSON,
    OPTION_PRINT_PORT,
    OPTION_BIND,
    OPTION_SOCKET,
    OPTION_SOCKS,
    OPTION_ONLINE,
    OPTION_WATCH,
    OPTION_INVENTORY,
    OPTION_ON,
    OPTION_USER,
    OPTION_FORKS,
    OPTION_FOR,
    OPTION_OPERATOR,
    OPTION_NEW_RELAY,
    OPTION_FINGERPRINT,
    OPTION_REPLACE,
    OPTION_QR,
    OPTION_OUTPUT,
    OPTION_FORCE,
    OPTION_YES,
    OPTION_ALL,
    OPTION_DEVICE,
    OPTION_REASON,
    OPTION_WAIT, /* its argument may be missing: "" */
    OPTION_BACKGROUND,
    OPTION_CONFIG, /* the parser in config-args.c takes it */
    OPTION_QUIET,
    OPTION_NO_COLOR,
    OPTION_HELP,
    OPTION_VERSION,
    N_OPTIONS,
};

struct option {
    const char *name, *letter; /* "--quiet", "-q"; ->letter may be NULL */
    const char *value;         /* the name of its argument; "[=TIME]": may be left out; or NULL */
    const char *help;
    uint32_t commands; /* bits of those that accept it */
};

extern const struct option command_line_options[N_OPTIONS];

/* Returns true if the argument may be left out ("[=TIME]"); it is never a word of its own. */
bool option_is_optional(const struct option *option);

struct command_line {
    const char *given[N_OPTIONS]; /* the argument, "" for an option without one, NULL: not given */
    char **arguments;             /* owned; texts of argv */
    char **passed;                /* owned: options for another program, before its arguments */
    size_t n_passed;
    const char **on; /* owned: each --on */
    size_t n_on;
    size_t n_arguments;             /* the command is the first */
    struct gt_config_args settings; /* options that stand for a setting, and --config */
};

/* Parses @argv, which must outlive @ret. Returns 0, GT_CONFIG_E_BAD with a usage error in
 * @ret_error, or a negative errno; ->arguments and ->given have the part before the error. */
int command_line_parse(int argc, char **argv, struct command_line *ret,
                       char ret_error[static GT_CONFIG_ERROR_MAX]) GT_MUST_CHECK;
void command_line_deinit(struct command_line *line);

/* Returns true if the value of the short options @option ("-p", "-vp") is the next argument.
 * @letters: those of options with a value. */
bool command_line_takes_value(const char *letters, const char *option);

/* Returns the name of an option that was given and that @command does not accept, without its
 * dashes; or NULL. */
const char *command_line_foreign_option(const struct command_line *line,
                                        const struct command *command);
