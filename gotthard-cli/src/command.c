/* SPDX-License-Identifier: ISC */
/*
 * Parts that several commands have in common: usage errors, the check of a device name, signals.
 */
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "gotthard/base/format.h"
#include "gotthard/base/log.h"
#include "gotthard/signaling/message.h"
#include "print-wait.h"

/* @command: "" or " NAME". */
static int report_misuse(struct context *context, const char *command, const char *text)
{
    char hint[96];

    snprintf(hint, sizeof(hint), "'%s%s --help'", context->program, command);
    dprintf(STDERR_FILENO, "%s%s: %s\nTry %s.\n", context->program, command, text, hint);
    return print_failure_event(&context->print, FAILURE_USAGE, text, hint);
}

int command_misused(struct context *context, const char *fmt, ...)
{
    char text[GT_CONFIG_ERROR_MAX], command[32] = "";
    va_list args;

    va_start(args, fmt);
    gt_vformat(GT_FORMAT_TEXT, text, sizeof(text), fmt, args);
    va_end(args);
    if (context->command)
        snprintf(command, sizeof(command), " %s", context->command->name);
    return report_misuse(context, command, text);
}

int command_unknown(struct context *context, const char *word)
{
    char shown[64], text[96];

    snprintf(text, sizeof(text), "unknown command '%s'",
             gt_text_escape(gt_span_text(word), shown, sizeof(shown)));
    return report_misuse(context, "", text);
}

bool command_check_device(struct context *context, const char *word)
{
    char shown[64];

    if (gt_text_is_device_name(gt_span_text(word)))
        return true;
    gt_text_shorten(word, shown, sizeof(shown));
    command_misused(context,
                    "invalid device name '%s': 1 to %d letters, digits and . _ : @ -, beginning "
                    "with a letter or digit, and not with " GT_TEXT_RESERVED,
                    shown, GT_NAME_MAX);
    return false;
}

bool command_check_purpose(struct context *context)
{
    if (!context->purpose || strlen(context->purpose) <= GT_PURPOSE_MAX)
        return true;
    command_misused(context, "--reason is too long: %zu bytes, at most %d",
                    strlen(context->purpose), GT_PURPOSE_MAX);
    return false;
}

bool command_take_device(struct context *context, const char *word,
                         char ret[static GT_NAME_MAX + 1])
{
    size_t n = strlen(word), n_suffix = strlen(COMMAND_HOST_SUFFIX);
    char name[GT_NAME_MAX + sizeof(COMMAND_HOST_SUFFIX) + 1];

    snprintf(name, sizeof(name), "%s", word);
    if (n > n_suffix && n < sizeof(name) && strcmp(word + n - n_suffix, COMMAND_HOST_SUFFIX) == 0)
        name[n - n_suffix] = 0;
    if (!command_check_device(context, name))
        return false;
    strcpy(ret, name);
    return true;
}

bool command_cut_device(struct context *context, size_t i)
{
    char *word = context->arguments[i];
    char name[GT_NAME_MAX + 1];

    if (!command_take_device(context, word, name))
        return false;
    memcpy(word, name, strlen(name) + 1); /* not longer than before */
    return true;
}

char *command_join_arguments(const struct context *context, size_t first)
{
    size_t n = 1;

    for (size_t i = first; i < context->n_arguments; i++)
        n += strlen(context->arguments[i]) + 1;
    char *words = calloc(1, n);
    for (size_t i = first; words && i < context->n_arguments; i++) {
        if (i > first)
            strcat(words, " ");
        strcat(words, context->arguments[i]);
    }
    return words;
}

void command_prompt(const char *fmt, ...)
{
    char text[GT_CONFIG_ERROR_MAX];
    va_list args;

    va_start(args, fmt);
    gt_vformat(GT_FORMAT_TEXT, text, sizeof(text), fmt, args);
    va_end(args);
    dprintf(STDERR_FILENO, "%s", text);
}

bool command_is_agreed(const char *fmt, ...)
{
    char question[GT_CONFIG_ERROR_MAX], answer[16] = "";
    va_list args;

    va_start(args, fmt);
    gt_vformat(GT_FORMAT_TEXT, question, sizeof(question), fmt, args);
    va_end(args);
    command_prompt("%s [y/N] ", question);
    return fgets(answer, sizeof(answer), stdin) && (*answer == 'y' || *answer == 'Y');
}

static void (*loop_handler)(int number); /* of libev: the same for each signal */

static void interrupting_handler(int number)
{
    print_wait_set_interrupted(true);
    loop_handler(number);
}

/* A write that waits for its reader must end before the loop can handle the signal. */
static void interrupt_writes(int number)
{
    struct sigaction action;

    if (sigaction(number, NULL, &action) != 0 || action.sa_handler == SIG_DFL ||
        action.sa_handler == interrupting_handler)
        return;
    loop_handler = action.sa_handler;
    action.sa_handler = interrupting_handler;
    (void)sigaction(number, &action, NULL);
}

static void signals_on_signal(struct ev_loop *loop, ev_signal *watcher, int revents)
{
    struct command_signals *signals = watcher->data;

    signals->on_signal(signals->userdata, watcher->signum);
}

void command_signals_start(struct command_signals *signals, struct ev_loop *loop,
                           command_signal_fn on_signal, void *userdata)
{
    static const int numbers[N_COMMAND_SIGNALS] = {SIGINT, SIGTERM, SIGHUP};

    print_wait_set_interrupted(false);
    signals->loop = loop;
    signals->on_signal = on_signal;
    signals->userdata = userdata;
    for (size_t i = 0; i < N_COMMAND_SIGNALS; i++) {
        struct sigaction before;

        ev_signal *watcher = &signals->watchers[i];

        ev_signal_init(watcher, signals_on_signal, numbers[i]);
        watcher->data = signals;
        if (sigaction(numbers[i], NULL, &before) == 0 && before.sa_handler != SIG_IGN) {
            ev_signal_start(loop, watcher);
            interrupt_writes(numbers[i]);
        }
    }
}

void command_signals_stop(struct command_signals *signals)
{
    for (size_t i = 0; i < N_COMMAND_SIGNALS; i++)
        ev_signal_stop(signals->loop, &signals->watchers[i]);
}
