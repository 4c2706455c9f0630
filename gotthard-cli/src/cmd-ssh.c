/* SPDX-License-Identifier: ISC */
/*
 * `ssh [USER@]DEVICE`: executes ssh(1) with the options of ssh-options.h, so that no file of ssh
 * needs them. The exit status is that of ssh. Settings are read by the `proxy` that ssh starts: the
 * environment is passed unchanged.
 */
#include <limits.h>
#include <signal.h>
#include <string.h>

#include "commands.h"
#include "gotthard/base/log.h"
#include "host-key-alias.h"
#include "ssh-options.h"

struct arguments {
    char **all; /* for ssh; owned */
    size_t n;
};

static void add(struct arguments *arguments, const char *text)
{
    arguments->all[arguments->n++] = (char *)text;
}

/* Returns the number of @words that are options of ssh, with their values. */
static size_t count_options(char **words, size_t n)
{
    size_t i = 0;

    while (i < n && words[i][0] == '-' && words[i][1] && strcmp(words[i], "--") != 0)
        i += command_line_takes_value(SSH_LETTERS, words[i]) ? 2 : 1;
    return GT_MIN(i, n);
}

/* Each line of @options, which is changed, as a value of -o. */
static void add_options(struct arguments *arguments, char *options)
{
    char *at = NULL;

    for (char *line = strtok_r(options, "\n", &at); line; line = strtok_r(NULL, "\n", &at)) {
        add(arguments, "-o");
        add(arguments, line);
    }
}

/* The first of two equal options counts in ssh: those of the user come first. */
static void fill(struct arguments *arguments, const struct context *context, char *options,
                 const char *destination)
{
    const struct command_line *line = context->line;
    char **words = context->arguments + 1;
    size_t n = context->n_arguments - 1, n_options = count_options(words, n);

    add(arguments, "ssh");
    if (line->given[OPTION_QUIET])
        add(arguments, "-q");
    for (size_t i = 0; i < line->n_passed; i++)
        add(arguments, line->passed[i]);
    for (size_t i = 0; i < n_options; i++)
        add(arguments, words[i]);
    add_options(arguments, options);
    add(arguments, "--");
    add(arguments, destination);
    if (n_options < n && strcmp(words[n_options], "--") == 0)
        n_options++;
    for (size_t i = n_options; i < n; i++)
        add(arguments, words[i]);
}

/* Returns the lines of the options, or NULL with an exit status. */
static char *format_options(struct context *context, const char *device, int *ret_code)
{
    char self[PATH_MAX], alias[HOST_KEY_ALIAS_SIZE], *text = NULL;
    size_t n = 0;
    FILE *file = open_memstream(&text, &n);
    int r = file ? ssh_options_self(self, sizeof(self)) : -ENOMEM;

    if (r == 0) {
        fprintf(file, "HostKeyAlias %s\n", host_key_alias(device, alias));
        r = ssh_options_write(context->line, self, "", file);
    }
    if (file && fclose(file) != 0)
        r = -ENOMEM;
    if (r == 0)
        return text;
    free(text);
    if (r < 0)
        gt_error_errno(r, "ssh");
    *ret_code = r < 0
                    ? GT_EXIT_INTERNAL
                    : command_misused(context, "an option has characters that ssh cannot pass on");
    return NULL;
}

/* USER@ stays as it is: ssh checks it. */
static bool parse_destination(struct context *context, const char *word,
                              char ret_device[static GT_NAME_MAX + 1], char **ret)
{
    const char *at = strrchr(word, '@');
    const char *host = at ? at + 1 : word;

    if (!command_take_device(context, host, ret_device))
        return false;
    return asprintf(ret, "%.*s%s" COMMAND_HOST_SUFFIX, (int)(host - word), word, ret_device) >= 0;
}

int cmd_ssh(struct context *context)
{
    gt_cleanup(gt_free) char *destination = NULL, *options = NULL, **all = NULL;
    char device[GT_NAME_MAX + 1];
    int code = GT_EXIT_INTERNAL;

    if (!parse_destination(context, context->arguments[0], device, &destination))
        return GT_EXIT_USAGE;
    if (!command_check_purpose(context) || !(options = format_options(context, device, &code)))
        return options ? code : GT_EXIT_USAGE;
    size_t n_lines = strlen(options); /* at least */
    all = calloc(context->line->n_passed + context->n_arguments + 2 * n_lines + 8, sizeof(*all));
    if (!all)
        return GT_EXIT_INTERNAL;
    struct arguments arguments = {.all = all};
    fill(&arguments, context, options, destination);
    signal(SIGPIPE, SIG_DFL);
    execvp("ssh", all);
    gt_error_errno(errno, "cannot execute ssh; install the package openssh-client");
    return GT_EXIT_UNAVAILABLE;
}
