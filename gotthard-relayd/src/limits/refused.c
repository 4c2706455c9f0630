/* SPDX-License-Identifier: ISC */
/*
 * The parser terminates each identity where it stands in the text, and sorts pointers to them. The
 * list never changes afterwards.
 */
#include "limits/refused.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gotthard/crypto/key.h"

#define BOM    "\xef\xbb\xbf"
#define BLANKS " \t\r"
#define PREFIX "g1:" /* of an identity on the wire */

static bool is_identity(const char *word)
{
    char identity[sizeof(PREFIX) + GT_IDENTITY_MAX], name[GT_NAME_MAX + 1];
    enum gt_role role;
    int n = snprintf(identity, sizeof(identity), PREFIX "%s", word);

    return n > 0 && (size_t)n < sizeof(identity) &&
           gt_key_parse_identity(gt_span_text(identity), &role, name);
}

/* Terminates the word of @line, which is empty for a blank line or a comment. NULL: malformed. */
static const char *word_of(char *line)
{
    char *word = line + strspn(line, BLANKS);

    if (*word == '#' || *word == 0)
        return "";
    char *end = word + strcspn(word, BLANKS), *next = end + strspn(end, BLANKS);
    bool is_alone = *next == 0 || *next == '#';
    *end = 0;
    return is_alone && is_identity(word) ? word : NULL;
}

static int compare(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static size_t n_lines(const char *text)
{
    size_t n = 1;

    for (; (text = strchr(text, '\n')); text++)
        n++;
    return n;
}

/* Parses the lines of @text into @refused, which has room for them. Returns false for a malformed
 * one, whose number is *ret_line. */
static bool parse_lines(char *text, struct refused *refused, size_t *ret_line)
{
    size_t line = 0;

    for (char *next; text; text = next) {
        next = strchr(text, '\n');
        if (next)
            *next++ = 0;
        line++;
        const char *word = word_of(text);
        if (!word) {
            *ret_line = line;
            return false;
        }
        if (*word)
            refused->identities[refused->n++] = word;
    }
    return true;
}

int refused_parse(char *text, struct refused *ret, size_t *ret_line, const char **ret_why)
{
    struct refused refused = {.text = text};
    char *start = text + (strncmp(text, BOM, strlen(BOM)) == 0 ? strlen(BOM) : 0);

    *ret_line = 1;
    bool is_empty = start[strspn(start, BLANKS "\n")] == 0;
    *ret_why = is_empty ? "empty; a line with a comment (#) is a list that refuses nothing"
                        : "expected o:NAME (an operator) or d:NAME (a device), and nothing else";
    refused.identities = calloc(n_lines(start), sizeof(*refused.identities));
    int r = refused.identities ? 0 : -ENOMEM;
    if (!r && (is_empty || !parse_lines(start, &refused, ret_line)))
        r = REFUSED_E_SYNTAX;
    if (r) {
        refused_deinit(&refused);
        return r;
    }
    qsort(refused.identities, refused.n, sizeof(*refused.identities), compare);
    *ret = refused;
    return 0;
}

void refused_deinit(struct refused *refused)
{
    free(refused->text);
    free(refused->identities);
    *refused = (struct refused){0};
}

bool refused_has(const struct refused *refused, const char *identity)
{
    const char *listed = identity + strlen(PREFIX);

    return refused->n > 0 && bsearch(&listed, refused->identities, refused->n,
                                     sizeof(*refused->identities), compare) != NULL;
}
