/* SPDX-License-Identifier: ISC */
/*
 * What main.c hands to a command: the settings, the voice, the loop, and the words after the
 * command's own. Each command is a file, cmd-*.c, and returns the exit code.
 */
#pragma once

#include <ev.h>

#include "gotthard/config.h"
#include "print.h"
#include "settings.h"

struct context {
    const char *program;      /* "gotthard-cli", or "gotthard" for the original's words */
    struct gt_config *config; /* NULL for a command that needs none */
    const struct settings *settings;
    struct print print;
    struct ev_loop *loop;
    const char *bind; /* --bind, or NULL */
    bool is_print_port;
    char **words; /* after the command's own */
    size_t n_words;
};

struct command {
    const char *name;
    const char *usage; /* the words after it */
    const char *help;  /* one sentence */
    size_t n_words_min, n_words_max;
    bool has_settings; /* reads the configuration first */
    int (*run)(struct context *context);
};

int cmd_connect(struct context *context);
int cmd_disconnect(struct context *context);
int cmd_status(struct context *context);
int cmd_devices(struct context *context);
int cmd_keygen(struct context *context);
int cmd_fingerprint(struct context *context);
int cmd_config(struct context *context);
int cmd_version(struct context *context);

/* The original's words for the two daemons: replaces this process, or returns an exit code. */
int cmd_exec_daemon(const char *daemon, char **argv);

/* Says that a word is not understood; returns EXIT_USAGE. */
int command_misused(struct context *context, const char *fmt, ...) GT_PRINTF(2, 3);
/* Is it a device's name? Says so if not. */
bool command_takes_device(struct context *context, const char *word);

/* Ctrl+C, SIGTERM and SIGHUP, for as long as a command waits. A signal that was ignored at the
 * start (nohup) stays so. */
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
