/* SPDX-License-Identifier: ISC */
/*
 * Prints the parts of the manual pages that follow from the tables of gotthard-cli, in scdoc(5)'s
 * markup: `failures` is the section ERRORS of gotthard(7). tests/generate runs it. A malformed
 * table is an error, so that it cannot be committed.
 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "failure-table.h"
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

static void print_failure(const struct failure_row *row)
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
        print_failure(&rows[i]);
    }
    return n_faults ? 1 : 0;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "failures") == 0)
        return print_failures();
    return 64;
}
