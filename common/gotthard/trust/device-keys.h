/* SPDX-License-Identifier: ISC */
/*
 * The keys of some devices: what an operator has who may reach these devices only
 * (docs/protocol.md, section 1). The text has a line "NAME base64(K_dev)" for each device. Blank
 * lines and comments, which begin with '#', are permitted, and so is a line with the operator's own
 * key as a variable, so that one file can have both.
 */
#pragma once

#include "gotthard/crypto/key.h"

#define GT_DEVICE_KEYS_MAX      65536 /* lines with a key */
#define GT_DEVICE_KEYS_TEXT_MAX (16 * 1024 * 1024)
/* Bytes with the NUL of the longest line that gt_device_keys_format() writes. */
#define GT_DEVICE_KEYS_LINE_MAX (GT_NAME_MAX + 48)

struct gt_device_key; /* a name and its K_dev */

struct gt_device_keys {
    struct gt_device_key *all; /* owned; sorted by name */
    size_t n;
};

enum { GT_DEVICE_KEYS_E_BAD = 1 };

/*
 * Parses a text as a whole: one invalid line rejects it. Returns 0, or GT_DEVICE_KEYS_E_BAD with
 * *ret_line (from 1) and *ret_why (static, without a part of the text), or -ENOMEM. @ret is
 * untouched on failure.
 */
int gt_device_keys_parse(struct gt_span text, struct gt_device_keys *ret, size_t *ret_line,
                         const char **ret_why) GT_MUST_CHECK;
/* Wipes and frees the keys. Takes a zeroed struct, and may be called twice. */
void gt_device_keys_deinit(struct gt_device_keys *keys);

/* Copies K_dev of @device. Returns false if there is none. */
bool gt_device_keys_find(const struct gt_device_keys *keys, const char *device,
                         uint8_t ret[static GT_KEY_SIZE]);
/* Returns the name of key @i, in the order of names. */
const char *gt_device_keys_name(const struct gt_device_keys *keys, size_t i);
/* Formats the line of @device without the line end into @ret (GT_DEVICE_KEYS_LINE_MAX). The caller
 * wipes it. Returns 0, GT_KEY_E_NOT_HELD, GT_KEY_E_SYNTAX or a negative errno. */
int gt_device_keys_format(const struct gt_key *key, const char *device, char *ret) GT_MUST_CHECK;
