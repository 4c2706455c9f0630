/* SPDX-License-Identifier: ISC */
/*
 * Files that are written as a whole, or not at all: keys, certificates, lists. Return 0 or a
 * negative errno.
 */
#pragma once

#include <sys/types.h>

#include "gotthard/base/bytes.h"

/* Creates a file, and waits for the disk. An existing one, or a link, stays as it is: -EEXIST. No
 * file is left after a failure. */
int new_file_write(const char *path, mode_t mode, struct gt_span text) GT_MUST_CHECK;
/* The same with rename(2) in place of an existing file. */
int new_file_replace(const char *path, mode_t mode, struct gt_span text) GT_MUST_CHECK;
/* Waits until the entry of @path in its folder is on the disk. */
int new_file_sync_folder(const char *path) GT_MUST_CHECK;
