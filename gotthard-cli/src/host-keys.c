/* SPDX-License-Identifier: ISC */
/*
 * A key is a word and Base64, and nothing else: a device must not be able to write a pattern, a
 * marker or a second line.
 */
#include "host-keys.h"

#include <stdio.h>
#include <string.h>

#define TYPE_CHARACTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-@."
#define KEY_CHARACTERS  "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/="

static size_t count(struct gt_span text, const char *characters)
{
    size_t n = 0;

    while (n < text.n && text.data[n] != 0 && strchr(characters, text.data[n]))
        n++;
    return n;
}

/* Returns the length of the type and the key, or 0. */
static size_t length_of(struct gt_span line)
{
    size_t n_type = count(line, TYPE_CHARACTERS);

    if (n_type == 0 || line.data[0] == '@' || n_type == line.n || line.data[n_type] != ' ')
        return 0;
    size_t at = n_type + 1;
    size_t n_key = count(gt_span(line.data + at, line.n - at), KEY_CHARACTERS);
    bool is_end = at + n_key == line.n || line.data[at + n_key] == ' ';
    return n_key > 0 && is_end ? at + n_key : 0;
}

void host_keys_format(const struct gt_extensions *extensions, char *ret, size_t cap)
{
    size_t n = 0;

    ret[0] = 0;
    for (size_t i = 0; i < extensions->n_host_keys; i++) {
        size_t length = length_of(extensions->host_keys[i]);

        if (length == 0 || n + length + 2 > cap)
            continue;
        memcpy(ret + n, extensions->host_keys[i].data, length);
        n += length;
        ret[n++] = '\n';
        ret[n] = 0;
    }
}
