/* SPDX-License-Identifier: ISC */
/*
 * The tags of a device: texts "KEY=VALUE" that its configuration gives it and that operators select
 * by. They are hints for people and scripts, and never a right.
 */
#pragma once

#include "gotthard/base/bytes.h"

#define GT_TAGS_MAX      16 /* tags of a device */
#define GT_TAG_KEY_MAX   32 /* bytes */
#define GT_TAG_VALUE_MAX 64 /* bytes */
#define GT_TAGS_BYTES_MAX \
    256 /* of all "KEY=VALUE" of a device: CONNECT contains them in the will */

/* Returns true for [A-Za-z][A-Za-z0-9_-]{0,31}. */
bool gt_tag_is_key(struct gt_span text);
/* Returns true for 1 to 64 letters, digits and . _ : @ + / - */
bool gt_tag_is_value(struct gt_span text);
/* Splits a well-formed "KEY=VALUE" at its sign. Returns false for any other text. */
bool gt_tag_split(struct gt_span tag, struct gt_span *ret_key, struct gt_span *ret_value);
