/* SPDX-License-Identifier: ISC */
/* The tags of this device, from device.tags to the texts of a STATE message. */
#pragma once

#include "gotthard/config/config.h"
#include "gotthard/signaling/tag.h"

struct tags {
    char *texts[GT_TAGS_MAX]; /* owned: "KEY=VALUE" */
    struct gt_span spans[GT_TAGS_MAX];
    size_t n;
};

enum { TAGS_E_BAD = 1 }; /* the reason was written to @ret_why */

/* Returns 0, E_BAD with one sentence for an ill-formed or too long tag or too many of them, or
 * -ENOMEM. The caller deinits @ret whatever the result. */
int tags_load(const struct gt_config_map *map, struct tags *ret, char *ret_why,
              size_t cap) GT_MUST_CHECK;
bool tags_are_equal(const struct tags *a, const struct tags *b);
void tags_deinit(struct tags *tags);
