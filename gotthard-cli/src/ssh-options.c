/* SPDX-License-Identifier: ISC */
/*
 * ssh passes ProxyCommand to the user's shell, and splits KnownHostsCommand itself, after it has
 * expanded %x in the one, and %x and ${x} in the parts of the other.
 */
#include "ssh-options.h"

#include <limits.h>
#include <string.h>

#include "commands.h"

#define PLAIN_CHARACTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:=@,+-"

enum reader { SHELL, SSH };

bool ssh_options_can_name(const char *device)
{
    size_t n = strlen(device), n_suffix = strlen(COMMAND_HOST_SUFFIX);

    return !strchr(device, '@') &&
           (n <= n_suffix || strcmp(device + n - n_suffix, COMMAND_HOST_SUFFIX) != 0);
}

int ssh_options_self(char *ret, size_t cap)
{
    static const char deleted[] = " (deleted)"; /* replaced by an upgrade meanwhile */
    ssize_t n = readlink("/proc/self/exe", ret, cap - 1);
    size_t n_deleted = strlen(deleted);

    if (n < 0)
        return -errno;
    ret[n] = 0;
    if ((size_t)n > n_deleted && strcmp(ret + n - (ssize_t)n_deleted, deleted) == 0)
        ret[(size_t)n - n_deleted] = 0;
    return 0;
}

static bool is_quotable(const char *word)
{
    for (const char *at = word; *at; at++)
        if ((uint8_t)*at < 0x20 || *at == 0x7f)
            return false;
    return !strstr(word, "${");
}

/* sh(1): between single quotes everything is literal, except a single quote. */
static void quote_for_shell(const char *word, FILE *file)
{
    fputc('\'', file);
    for (const char *at = word; *at; at++)
        if (*at == '\'')
            fputs("'\\''", file);
        else if (*at == '%')
            fputs("%%", file);
        else
            fputc(*at, file);
    fputc('\'', file);
}

/* argv_split() in misc.c of OpenSSH: a backslash protects quotes and backslashes. */
static void quote_for_ssh(const char *word, FILE *file)
{
    fputc('"', file);
    for (const char *at = word; *at; at++) {
        if (strchr("\"'\\", *at))
            fputc('\\', file);
        else if (*at == '%')
            fputc('%', file);
        fputc(*at, file);
    }
    fputc('"', file);
}

static int write_word(const char *word, enum reader reader, FILE *file)
{
    if (!is_quotable(word))
        return SSH_OPTIONS_E_TEXT;
    if (*word && word[strspn(word, PLAIN_CHARACTERS)] == 0)
        fputs(word, file);
    else if (reader == SHELL)
        quote_for_shell(word, file);
    else
        quote_for_ssh(word, file);
    return 0;
}

/* " --NAME=VALUE", or " --NAME" if @value is NULL. */
static int write_option(const char *name, const char *value, enum reader reader, FILE *file)
{
    gt_cleanup(gt_free) char *word = NULL;

    if (asprintf(&word, "--%s%s%s", name, value ? "=" : "", value ? value : "") < 0)
        return -ENOMEM;
    fputc(' ', file);
    return write_word(word, reader, file);
}

static bool is_path(const char *flag)
{
    const struct gt_config_program *program = settings_program();

    for (size_t i = 0; i < program->n_items; i++)
        if (program->items[i].flag && strcmp(program->items[i].flag, flag) == 0)
            return program->items[i].type == GT_CONFIG_PATH;
    return strcmp(flag, "config") == 0;
}

/* A relative path means another file in another folder. */
static int write_setting(const char *flag, const char *value, enum reader reader, FILE *file)
{
    gt_cleanup(gt_free) char *absolute = NULL;

    if (is_path(flag) && *value != '/' && *value != '~')
        absolute = realpath(value, NULL);
    return write_option(flag, absolute ? absolute : value, reader, file);
}

/* This program with @command, and the options that it was given itself. */
static int write_command(const struct command_line *line, const char *self, const char *command,
                         enum reader reader, FILE *file)
{
    int r = write_word(self, reader, file);

    fprintf(file, " %s", command);
    if (r == 0 && line->settings.file)
        r = write_setting("config", line->settings.file, reader, file);
    for (size_t i = 0; i < line->settings.n_sets && r == 0; i++)
        r = write_setting(line->settings.sets[2 * i], line->settings.sets[2 * i + 1], reader, file);
    if (r == 0 && line->given[OPTION_REASON])
        r = write_option("reason", line->given[OPTION_REASON], reader, file);
    if (r == 0 && line->given[OPTION_QUIET])
        r = write_option("quiet", NULL, reader, file);
    if (r == 0 && line->given[OPTION_NO_COLOR])
        r = write_option("no-color", NULL, reader, file);
    return r;
}

int ssh_options_write(const struct command_line *line, const char *self, const char *indent,
                      FILE *file)
{
    fprintf(file, "%sProxyCommand ", indent);
    int r = write_command(line, self, "proxy", SHELL, file);
    if (r != 0)
        return r;
    fprintf(file, " %%n %%p\n%sKnownHostsCommand ", indent);
    r = write_command(line, self, "known-hosts", SSH, file);
    if (r != 0)
        return r;
    fprintf(file,
            " %%n %%H\n"
            "%sStrictHostKeyChecking yes\n"
            "%sCheckHostIP no\n"
            "%sUpdateHostKeys no\n"
            "%sServerAliveInterval 15\n",
            indent, indent, indent, indent);
    return ferror(file) ? -ENOMEM : 0;
}
