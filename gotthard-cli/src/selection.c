/* SPDX-License-Identifier: ISC */
/* See the header. Pure. */
#include "selection.h"

#include <fnmatch.h>
#include <string.h>

static const char *selection_add_tag(struct selection *selection, const char *word, size_t n)
{
    struct selection_tag *tag = &selection->tags[selection->n_tags];

    if (selection->n_tags == SELECTION_MAX)
        return "too many tags";
    tag->word = word;
    tag->is_negated = n > 0 && word[n - 1] == '!';
    tag->n_key = n - tag->is_negated;
    tag->pattern = word[n + 1] ? word + n + 1 : "*";
    if (!gt_tag_is_key(gt_span(word, tag->n_key)))
        return "a tag's name has at most 32 letters, digits, _ and -, beginning with a letter";
    selection->n_tags++;
    return NULL;
}

const char *selection_add(struct selection *selection, const char *word)
{
    const char *sign = strchr(word, '=');

    if (sign)
        return selection_add_tag(selection, word, (size_t)(sign - word));
    if (!*word)
        return "empty";
    if (selection->n_patterns == SELECTION_MAX)
        return "too many patterns";
    selection->patterns[selection->n_patterns++] = word;
    return NULL;
}

/* Copies the value of a tag to @ret. Returns false if the row does not have it. */
static bool row_tag(const struct device_row *row, const char *key, size_t n_key,
                    char ret[static GT_TAG_VALUE_MAX + 1])
{
    for (const char *at = row->tags; *at; at += strspn(at, " ")) {
        size_t n = strcspn(at, " ");

        if (n > n_key && at[n_key] == '=' && memcmp(at, key, n_key) == 0 &&
            n - n_key - 1 <= GT_TAG_VALUE_MAX) {
            memcpy(ret, at + n_key + 1, n - n_key - 1);
            ret[n - n_key - 1] = 0;
            return true;
        }
        at += n;
    }
    return false;
}

static bool tag_accepts(const struct selection_tag *tag, const struct device_row *row)
{
    char value[GT_TAG_VALUE_MAX + 1];
    bool is_equal =
        row_tag(row, tag->word, tag->n_key, value) && fnmatch(tag->pattern, value, 0) == 0;

    return is_equal != tag->is_negated;
}

bool selection_accepts_name(const struct selection *selection, const char *name)
{
    for (size_t i = 0; i < selection->n_patterns; i++)
        if (fnmatch(selection->patterns[i], name, 0) == 0)
            return true;
    return selection->n_patterns == 0;
}

bool selection_accepts(const struct selection *selection, const struct device_row *row)
{
    bool is_known = row->knowledge == DEVICE_AUTHENTIC;

    if (selection->is_online_only && !(is_known && row->is_online))
        return false;
    if (selection->n_tags > 0 && !is_known)
        return false;
    for (size_t i = 0; i < selection->n_tags; i++)
        if (!tag_accepts(&selection->tags[i], row))
            return false;
    return selection_accepts_name(selection, row->name);
}
