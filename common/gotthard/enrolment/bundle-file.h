/* SPDX-License-Identifier: ISC */
/* A bundle in a file, for a newcomer without a network (trust/bundle.h). It is a secret. */
#pragma once

#include "gotthard/trust/bundle.h"

#define GT_BUNDLEFILE_WHY 500 /* bytes of a reason with its NUL */

struct gt_bundlefile {
    uint8_t *bytes; /* owned */
    size_t n;
    struct gt_bundle bundle; /* borrows from ->bytes */
};

enum { GT_BUNDLEFILE_E_BAD = 1 }; /* a reason with the path was written to @ret_why */

/* Reads a file that no other user can read or change, with a bundle of @kind that gt_bundle_check()
 * accepts. Returns 0, E_BAD, or -ENOMEM. */
int gt_bundlefile_read(const char *path, enum gt_token_kind kind, struct gt_bundlefile *ret,
                       char ret_why[static GT_BUNDLEFILE_WHY]) GT_MUST_CHECK;
/* Wipes and frees. Takes a zeroed struct. */
void gt_bundlefile_deinit(struct gt_bundlefile *file);
