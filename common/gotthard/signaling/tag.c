/* SPDX-License-Identifier: ISC */
/*
 * The form of tags; see the header. No character of a tag has a meaning in a shell, in a pattern,
 * in JSON or in a terminal.
 */
#include "gotthard/signaling/tag.h"

#include <string.h>

#define LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define DIGITS  "0123456789"

static bool is_made_of(struct gt_span text, size_t max, const char *characters)
{
    for (size_t i = 0; i < text.n; i++)
        if (text.data[i] == 0 || !strchr(characters, text.data[i]))
            return false;
    return text.n > 0 && text.n <= max;
}

bool gt_tag_is_key(struct gt_span text)
{
    return is_made_of(text, GT_TAG_KEY_MAX, LETTERS DIGITS "_-") &&
           strchr(LETTERS, text.data[0]) != NULL;
}

bool gt_tag_is_value(struct gt_span text)
{
    return is_made_of(text, GT_TAG_VALUE_MAX, LETTERS DIGITS "._:@+/-");
}

bool gt_tag_split(struct gt_span tag, struct gt_span *ret_key, struct gt_span *ret_value)
{
    const uint8_t *sign = tag.n > 0 ? memchr(tag.data, '=', tag.n) : NULL;

    if (!sign)
        return false;
    size_t n = (size_t)(sign - tag.data);
    struct gt_span key = gt_span(tag.data, n), value = gt_span(sign + 1, tag.n - n - 1);
    if (!gt_tag_is_key(key) || !gt_tag_is_value(value))
        return false;
    *ret_key = key;
    *ret_value = value;
    return true;
}
