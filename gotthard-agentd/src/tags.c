/* SPDX-License-Identifier: ISC */
/* Checks each tag against the limits of the protocol; see the header. */
#include "tags.h"

#include <stdio.h>
#include <string.h>

static const char *fault_of(const struct gt_config_pair *pair)
{
    if (!gt_tag_is_key(gt_span_text(pair->name)))
        return "a name has at most 32 letters, digits, _ and -, beginning with a letter";
    if (!gt_tag_is_value(gt_span_text(pair->value)))
        return "a value has at most 64 letters, digits and . _ : @ + / -";
    return NULL;
}

static int tags_add(struct tags *tags, const struct gt_config_pair *pair)
{
    char *text = NULL;

    if (asprintf(&text, "%s=%s", pair->name, pair->value) < 0)
        return -ENOMEM;
    tags->texts[tags->n] = text;
    tags->spans[tags->n++] = gt_span_text(text);
    return 0;
}

int tags_load(const struct gt_config_map *map, struct tags *ret, char *ret_why, size_t cap)
{
    size_t n_bytes = 0;

    *ret = (struct tags){0};
    for (size_t i = 0; i < map->n_pairs; i++) {
        const struct gt_config_pair *pair = &map->pairs[i];
        const char *fault = fault_of(pair);

        n_bytes += strlen(pair->name) + 1 + strlen(pair->value);
        if (fault) {
            snprintf(ret_why, cap, "%.64s = \"%.80s\": %s", pair->name, pair->value, fault);
            return TAGS_E_BAD;
        }
        if (i == GT_TAGS_MAX || n_bytes > GT_TAGS_BYTES_MAX) {
            snprintf(ret_why, cap, "too many: at most %d tags with %d characters together",
                     GT_TAGS_MAX, GT_TAGS_BYTES_MAX);
            return TAGS_E_BAD;
        }
        int r = tags_add(ret, pair);
        if (r)
            return r;
    }
    return 0;
}

bool tags_are_equal(const struct tags *a, const struct tags *b)
{
    for (size_t i = 0; i < a->n && i < b->n; i++)
        if (strcmp(a->texts[i], b->texts[i]) != 0)
            return false;
    return a->n == b->n;
}

void tags_deinit(struct tags *tags)
{
    for (size_t i = 0; i < tags->n; i++)
        free(tags->texts[i]);
    *tags = (struct tags){0};
}
