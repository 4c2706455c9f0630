/* SPDX-License-Identifier: ISC */
/* Text in, text out. Malformed parts are left out: the file is a convenience. */
#include "remembered.h"

#include <string.h>

#include "gotthard/base/text.h"
#include "gotthard/signaling/tag.h"

static bool is_tag(const char *word, size_t n)
{
    return memchr(word, '=', n) != NULL;
}

static bool is_valid(const char *word, size_t n)
{
    struct gt_span key, value;

    if (is_tag(word, n))
        return gt_tag_split(gt_span(word, n), &key, &value);
    return n <= GT_SERVICE_MAX && gt_text_is_name(gt_span(word, n));
}

/* Drops invalid words, in place. */
static void keep_words(char *words)
{
    char *out = words;

    for (char *at = NULL, *word = strtok_r(words, " ", &at); word;
         word = strtok_r(NULL, " ", &at)) {
        size_t n = strlen(word);

        if (!is_valid(word, n))
            continue;
        if (out > words)
            *out++ = ' ';
        memmove(out, word, n);
        out += n;
    }
    *out = 0;
}

bool remembered_parse(char *text, struct remembered *ret)
{
    char *number = strchr(text, ' '), *words = number ? strchr(number + 1, ' ') : NULL;

    if (!number)
        return false;
    *number++ = 0;
    if (words)
        *words++ = 0;
    ret->name = text;
    ret->words = words ? words : number + strlen(number);
    if (!gt_text_is_name(gt_span_text(text)) ||
        gt_text_number(number, 1, INT64_MAX, &ret->seen) != 0)
        return false;
    keep_words(ret->words);
    return true;
}

const char *remembered_find(const char *text, const char *device)
{
    size_t n = strlen(device);

    for (const char *at = text; at && *at; at = strchr(at, '\n') ? strchr(at, '\n') + 1 : NULL)
        if (strncmp(at, device, n) == 0 && at[n] == ' ')
            return at;
    return NULL;
}

const char *remembered_words(const char *line)
{
    const char *number = strchr(line, ' ') + 1;

    return number + strcspn(number, " \n");
}

size_t remembered_next(const char **at, enum remembered_kind kind)
{
    for (;;) {
        *at += strspn(*at, " ");
        size_t n = strcspn(*at, " \n");

        if (n == 0 || is_tag(*at, n) == (kind == REMEMBERED_TAGS))
            return n;
        *at += n;
    }
}

bool remembered_equal(const char *a, const char *b, enum remembered_kind kind)
{
    for (;;) {
        size_t n = remembered_next(&a, kind);

        if (n != remembered_next(&b, kind) || memcmp(a, b, n) != 0)
            return false;
        if (n == 0)
            return true;
        a += n;
        b += n;
    }
}

void remembered_write(FILE *file, const char *words, enum remembered_kind kind)
{
    for (size_t n; (n = remembered_next(&words, kind)) > 0; words += n)
        fprintf(file, " %.*s", (int)n, words);
}
