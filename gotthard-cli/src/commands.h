/* SPDX-License-Identifier: ISC */
/*
 * The commands and their common parts. A command is a file cmd-*.c, a row of the table in
 * command-table.c, a prototype here, and a bit in settings.h. It gets a struct context and
 * returns the exit status.
 */
#pragma once

#include <ev.h>

#include "gotthard/config/config.h"
#include "print.h"
#include "settings.h"

struct command_line;

struct context {
    const char *program; /* "gotthard-cli", or "gotthard" with the commands of the original tool */
    const struct command *command;
    struct gt_config *config;        /* NULL for a command without settings */
    const struct settings *settings; /* of ->config */
    struct print print;
    struct ev_loop *loop;
    const char *socks;                   /* -D, or NULL */
    const char *bind, *socket, *purpose; /* --bind, --socket, --reason, or NULL */
    const char *wait;                    /* --wait: "" or its time; or NULL */
    bool is_background;                  /* --background */
    bool is_print_port, is_online_only;  /* --print-port, --online */
    bool is_confirmed, is_all;           /* --yes, --all */
    bool is_watching, is_inventory;      /* --watch, --inventory */
    const struct command_line *line;     /* all options that were given */
    char **arguments;                    /* those after the command */
    size_t n_arguments;
};

struct command {
    const char *name;
    uint32_t bit;      /* its own COMMAND_... of settings.h; command-line.c lists its options */
    uint32_t settings; /* bits: it accepts the options of these commands' settings; 0: reads none */
    bool passes_settings; /* to another process, and reads none itself */
    /* The letters of short options with a value of the program that it executes: all short options
     * of that program are accepted before the first argument, and anything after it. NULL: none. */
    const char *passed_letters;
    const char *usage;    /* its arguments */
    const char *help;     /* one sentence */
    const char *examples; /* arguments of the program, one example a line */
    size_t n_arguments_min, n_arguments_max;
    int (*run)(struct context *context);
    /* Reports settings that cannot be loaded, and returns the exit status; NULL: main.c does. */
    int (*on_misconfigured)(struct context *context, const struct failure *failure);
};

/* A command of the original tool that executes a daemon; for `gotthard`. */
struct daemon_command {
    const char *name, *daemon, *help;
};

const struct command *command_table(size_t *ret_n);
const struct daemon_command *daemon_table(size_t *ret_n);
/* Return NULL if there is no such command. */
const struct command *command_find(const char *name);
const struct daemon_command *daemon_find(const char *name);

int cmd_connect(struct context *context);
int cmd_proxy(struct context *context);
int cmd_disconnect(struct context *context);
int cmd_status(struct context *context);
int cmd_devices(struct context *context);
int cmd_forget(struct context *context);
int cmd_keygen(struct context *context);
int cmd_fingerprint(struct context *context);
int cmd_config(struct context *context);
int cmd_completion(struct context *context);
int cmd_ssh(struct context *context);
int cmd_run(struct context *context);
int cmd_ssh_config(struct context *context);
int cmd_sessions(struct context *context);
int cmd_known_hosts(struct context *context);
int cmd_version(struct context *context);
int cmd_help(struct context *context);
int cmd_access(struct context *context);
int cmd_revoke(struct context *context);
int cmd_ca(struct context *context);
int cmd_enroll(struct context *context);
int cmd_join(struct context *context);
int cmd_add(struct context *context);
int cmd_audit(struct context *context);
int cmd_doctor(struct context *context);
/* The same if the settings cannot be loaded: the list ends with that. */
int cmd_doctor_misconfigured(struct context *context, const struct failure *failure);

/* Executes @daemon in place of this process; @argv[0] is replaced. Returns an exit status if it
 * cannot. */
int cmd_exec_daemon(const char *daemon, char **argv);

/* Prints the help of @command, or the list of commands if it is NULL. Returns 0. */
int help_print(struct context *context, const struct command *command);
/* Writes the list of commands to @fd. */
void help_print_commands(const char *program, int fd);

/* Prints a usage error "PROGRAM COMMAND: ...", with a pointer to the help, and the event "error".
 * Returns GT_EXIT_USAGE. */
int command_misused(struct context *context, const char *fmt, ...) GT_PRINTF(2, 3);
/* Prints the usage error for the command word @word. Returns GT_EXIT_USAGE. */
int command_unknown(struct context *context, const char *word);
/* Checks --reason: at most GT_PURPOSE_MAX bytes. Returns false after the usage error. */
bool command_check_purpose(struct context *context);
/* Returns true if @word is a valid device name; otherwise prints the usage error. */
bool command_check_device(struct context *context, const char *word);
/* The same for a word with or without COMMAND_HOST_SUFFIX: writes the device's name to @ret. */
#define COMMAND_HOST_SUFFIX ".gotthard" /* of the hosts that ssh knows */
bool command_take_device(struct context *context, const char *word,
                         char ret[static GT_NAME_MAX + 1]);

/* The same in place, for argument @i. */
bool command_cut_device(struct context *context, size_t i);

/* Joins the arguments from @first on by blanks; the caller frees it. NULL without memory. */
char *command_join_arguments(const struct context *context, size_t first);

/* Writes a text without a newline to the terminal, for a person who types behind it. */
void command_prompt(const char *fmt, ...) GT_PRINTF(1, 2);
/* Asks the person at the terminal a question and returns true for "y" or "yes". */
bool command_is_agreed(const char *fmt, ...) GT_PRINTF(1, 2);

/* SIGINT, SIGTERM and SIGHUP while a command waits. A signal that is ignored at the start (nohup)
 * stays ignored. */
#define N_COMMAND_SIGNALS 3
typedef void (*command_signal_fn)(void *userdata, int number);
struct command_signals {
    struct ev_loop *loop;
    ev_signal watchers[N_COMMAND_SIGNALS];
    command_signal_fn on_signal;
    void *userdata;
};
void command_signals_start(struct command_signals *signals, struct ev_loop *loop,
                           command_signal_fn on_signal, void *userdata);
void command_signals_stop(struct command_signals *signals);
