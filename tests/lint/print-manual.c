/* SPDX-License-Identifier: ISC */
/*
 * Prints the parts of the manual pages that follow from the tables of gotthard-cli, in scdoc(5)'s
 * markup: `failures` is the section ERRORS of gotthard(7), `synopsis` and `options` are parts of
 * gotthard-cli(1). tests/generate runs it. A malformed table is an error, so that it cannot be
 * committed.
 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "command-line.h"
#include "failure-table.h"
#include "gotthard/config/config-facts.h"
#include "gotthard/config/wrap.h"

#define TEXT_MAX 1024

/* --- markup --------------------------------------------------------------------------------- */

/* Returns the length of the part of a word that is bold: a setting's path ("timeouts.peer"), or
 * the name of a page ("gotthard-cli(1)" without the section); 0 if there is none. */
static size_t bold_length(const char *word, size_t n)
{
    const char *brace = memchr(word, '(', n), *point = memchr(word, '.', n);
    size_t n_path = strspn(word, "abcdefghijklmnopqrstuvwxyz_.");

    if (brace && brace > word && isdigit((unsigned char)brace[1]) && brace[2] == ')')
        return (size_t)(brace - word);
    if (!point || point == word || !islower((unsigned char)point[1]))
        return 0;
    n_path = n_path < n ? n_path : n;
    return n_path > 0 && word[n_path - 1] == '.' ? n_path - 1 : n_path;
}

/* Copies @text with its markup. A "(" before a word is not part of it. */
static const char *mark(const char *text, char ret[static TEXT_MAX])
{
    FILE *out = fmemopen(ret, TEXT_MAX, "w");
    char word[TEXT_MAX], escaped[TEXT_MAX];

    ret[0] = 0;
    while (out && *text) {
        size_t n_skip = strspn(text, " ("), n = strcspn(text + n_skip, " ");
        size_t n_bold = bold_length(text + n_skip, n);

        fprintf(out, "%.*s", (int)n_skip, text);
        text += n_skip;
        snprintf(word, sizeof(word), "%.*s", (int)n_bold, text);
        if (n_bold > 0)
            fprintf(out, "*%s*", gt_wrap_escape(word, escaped, sizeof(escaped)));
        snprintf(word, sizeof(word), "%.*s", (int)(n - n_bold), text + n_bold);
        fprintf(out, "%s", gt_wrap_escape(word, escaped, sizeof(escaped)));
        text += n;
    }
    if (out)
        fclose(out);
    return ret;
}

/* --- the failures --------------------------------------------------------------------------- */

static void print_error_id(const struct failure_row *row)
{
    struct gt_wrap wrap = {STDOUT_FILENO, "\t", 0};
    char text[TEXT_MAX], hint[TEXT_MAX];
    struct failure failure;

    dprintf(STDOUT_FILENO, "\n*GTD-E%02u* (%d)\n", row->id, row->exit);
    gt_wrap_text(&wrap, mark(row->title, text));
    gt_wrap_text(&wrap, mark(row->cause, text));
    gt_wrap_end(&wrap);
    failure_set(&failure, row->id, NULL, "%s", "");
    snprintf(hint, sizeof(hint), "%c%s.", toupper((unsigned char)failure.hint[0]),
             failure.hint + 1);
    dprintf(STDOUT_FILENO, "\n");
    gt_wrap_paragraph(STDOUT_FILENO, "\t", mark(hint, text));
}

static bool is_sentence(const char *text)
{
    size_t n = strlen(text);

    return n > 0 && isupper((unsigned char)text[0]) && text[n - 1] == '.';
}

static const char *failure_fault(const struct failure_row *row, const struct failure_row *previous)
{
    size_t n_hint = strlen(row->hint);

    if (previous && previous->id >= row->id)
        return "the ids must ascend";
    if (!is_sentence(row->title) || (*row->cause && !is_sentence(row->cause)))
        return "title and cause must be sentences";
    if (n_hint == 0 || row->hint[n_hint - 1] == '.')
        return "the hint must have no period at its end";
    return NULL;
}

static int print_failures(void)
{
    size_t n;
    const struct failure_row *rows = failure_table(&n);
    int n_faults = 0;

    for (size_t i = 0; i < n; i++) {
        const char *fault = failure_fault(&rows[i], i > 0 ? &rows[i - 1] : NULL);

        if (fault)
            fprintf(stderr, "GTD-E%02u: %s\n", rows[i].id, fault);
        n_faults += fault != NULL;
        print_error_id(&rows[i]);
    }
    return n_faults ? 1 : 0;
}

/* --- the synopsis --------------------------------------------------------------------------- */

/* Writes the usage of a command, or the argument of an option: names (DEVICE) are underlined,
 * literal words and options are bold. */
static void mark_usage(FILE *out, const char *usage)
{
    char escaped[TEXT_MAX], word[TEXT_MAX];

    while (*usage) {
        size_t n_name = strspn(usage, "ABCDEFGHIJKLMNOPQRSTUVWXYZ");
        size_t n_word = strspn(usage, "abcdefghijklmnopqrstuvwxyz-");
        size_t n = n_name ? n_name : n_word ? n_word : 1;
        const char *markup = n_name ? "_" : n_word ? "*" : "";

        snprintf(word, sizeof(word), "%.*s", (int)n, usage);
        fprintf(out, "%s%s%s", markup, gt_wrap_escape(word, escaped, sizeof(escaped)), markup);
        usage += n;
    }
}

static int print_synopsis(void)
{
    size_t n;
    const struct command *commands = command_table(&n);

    printf("\n");
    for (size_t i = 0; i < n; i++) {
        printf("*gotthard-cli* *%s* [_OPTION_...]%s", commands[i].name,
               *commands[i].usage ? " " : "");
        mark_usage(stdout, commands[i].usage);
        printf("%s\n", i + 1 < n ? "++" : "");
    }
    fflush(stdout);
    return 0;
}

/* --- the options of each command ------------------------------------------------------------ */

static void add_option(FILE *list, bool *is_first, const char *name, const char *value)
{
    bool is_joined = !value || !*value || strncmp(value, "[=", 2) == 0;

    fprintf(list, "%s*%s*%s", *is_first ? "" : ", ", name, is_joined ? "" : " ");
    mark_usage(list, value ? value : "");
    *is_first = false;
}

static void add_plain_options(FILE *list, bool *is_first, const struct command *command)
{
    for (size_t i = 0; i < N_OPTIONS; i++) {
        const struct option *option = &command_line_options[i];

        if (option->commands != COMMAND_ANY && (option->commands & command->bit))
            add_option(list, is_first, option->name, option->value);
    }
}

static void add_settings(FILE *list, bool *is_first, const struct command *command)
{
    const struct gt_config_program *program = settings_program();

    for (size_t i = 0; i < program->n_items && command->settings; i++) {
        const struct gt_config_item *item = &program->items[i];
        char name[GT_CONFIG_PATH_MAX + 3];

        if (!item->flag || !gt_configfacts_is_accepted(item, command->settings))
            continue;
        snprintf(name, sizeof(name), "--%s", item->flag);
        add_option(list, is_first, name, gt_configfacts_value_word(item->type));
    }
}

/* The options of one command, without those of all commands. */
static void print_options_of(const struct command *command)
{
    char text[4 * TEXT_MAX] = "";
    FILE *list = fmemopen(text, sizeof(text), "w");
    bool is_first = true;

    if (!list)
        return;
    add_plain_options(list, &is_first, command);
    add_settings(list, &is_first, command);
    fclose(list);
    dprintf(STDOUT_FILENO, "\n*%s*\n", command->name);
    gt_wrap_paragraph(STDOUT_FILENO, "\t", is_first ? "No further option." : text);
}

static int print_options(void)
{
    size_t n;
    const struct command *commands = command_table(&n);
    const char *separator = "";

    dprintf(STDOUT_FILENO, "\nEvery command accepts ");
    for (size_t i = 0; i < N_OPTIONS; i++) {
        if (command_line_options[i].commands != COMMAND_ANY)
            continue;
        dprintf(STDOUT_FILENO, "%s*%s*", separator, command_line_options[i].name);
        separator = ", ";
    }
    dprintf(STDOUT_FILENO, ".\n");
    for (size_t i = 0; i < n; i++)
        print_options_of(&commands[i]);
    return 0;
}

static const struct part {
    const char *name;
    int (*print)(void);
} parts[] = {
    {"failures", print_failures},
    {"synopsis", print_synopsis},
    {"options", print_options},
};

int main(int argc, char **argv)
{
    for (size_t i = 0; i < GT_ARRAY_SIZE(parts) && argc == 2; i++)
        if (strcmp(argv[1], parts[i].name) == 0)
            return parts[i].print();
    return 64;
}
