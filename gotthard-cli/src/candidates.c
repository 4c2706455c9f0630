/* SPDX-License-Identifier: ISC */
/* A growing array, sorted when it is printed. */
#include "candidates.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gotthard/base/base.h"

/* Letters, digits and these. A word must not begin with ~ or contain *, ?, [, $, ` or quotes. */
static bool is_safe(const char *word, size_t n)
{
    static const char safe[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
                               "-._:@=,+";

    return n > 0 && strspn(word, safe) >= n;
}

static bool grow(struct candidates *candidates)
{
    size_t capacity = candidates->capacity ? 2 * candidates->capacity : 64;

    if (candidates->n < candidates->capacity)
        return true;
    struct candidate *rows = reallocarray(candidates->rows, capacity, sizeof(*rows));
    if (!rows)
        return false;
    candidates->rows = rows;
    candidates->capacity = capacity;
    return true;
}

void candidates_add(struct candidates *candidates, const char *word, size_t n, const char *help)
{
    const char *current = candidates->current;
    size_t n_lead = strlen(candidates->lead);
    char *copy;

    if (!is_safe(word, n) || strncmp(current, candidates->lead, n_lead) != 0)
        return;
    current += n_lead;
    if (strlen(current) > n || memcmp(current, word, strlen(current)) != 0)
        return;
    if (!grow(candidates) || asprintf(&copy, "%s%.*s", candidates->lead, (int)n, word) < 0)
        return;
    candidates->rows[candidates->n++] = (struct candidate){copy, help};
}

static int compare(const void *a, const void *b)
{
    return strcmp(((const struct candidate *)a)->word, ((const struct candidate *)b)->word);
}

void candidates_print(struct candidates *candidates, int fd)
{
    char *text = NULL;
    size_t n_text;
    FILE *out = open_memstream(&text, &n_text);

    if (!out)
        return;
    if (candidates->n > 0)
        qsort(candidates->rows, candidates->n, sizeof(candidates->rows[0]), compare);
    for (size_t i = 0; i < candidates->n; i++) {
        const struct candidate *row = &candidates->rows[i];

        if (i > 0 && strcmp(row->word, row[-1].word) == 0)
            continue;
        fprintf(out, "%s%s%s\n", row->word, row->help ? "\t" : "", row->help ? row->help : "");
    }
    if (candidates->is_file)
        fprintf(out, "/\n");
    if (fclose(out) == 0)
        for (size_t at = 0; at < n_text;) {
            ssize_t n = write(fd, text + at, n_text - at);

            if (n <= 0)
                break;
            at += (size_t)n;
        }
    free(text);
}

void candidates_deinit(struct candidates *candidates)
{
    for (size_t i = 0; i < candidates->n; i++)
        free(candidates->rows[i].word);
    free(candidates->rows);
    candidates->rows = NULL;
    candidates->n = candidates->capacity = 0;
}
