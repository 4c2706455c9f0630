/* SPDX-License-Identifier: ISC */
/*
 * Files of trust or secrets: configuration files, keys, certificates, pins. A user who can write
 * such a file, or replace it, decides who opens tunnels. A file is therefore used only if no other
 * user can. This is the only place that opens one.
 *
 * A file must be a regular one of root or of this process's user, and writable by its owner alone,
 * or also by a group that has only this user (private-group.h).
 * A secret must not be accessible by others; its group may read it. Each folder on the way to it
 * must belong to root or this user and be writable by its owner alone, or be sticky as /tmp is; in
 * a sticky folder the entry itself must belong to one of them. Symbolic links are followed, and the
 * way that they name obeys the same rules. Access control lists are not read: their mask
 * appears as the rights of the group.
 */
#pragma once

#include <sys/stat.h>
#include <time.h>

#include "gotthard/base/bytes.h"

#define GT_PROTECTEDFILE_WHY 320 /* bytes of a reason with its NUL */

enum { GT_PROTECTEDFILE_E_UNUSABLE = 1 }; /* a reason was written to @ret_why; it may pass */

/*
 * Opens a file for reading, without blocking, and checks it and the way to it. @is_secret: others
 * must not read it. Returns 0 with the descriptor, which the caller closes, and its *ret_stat; or
 * E_UNUSABLE, also if the file is missing.
 */
int gt_protectedfile_open(const char *path, bool is_secret, int *ret_fd, struct stat *ret_stat,
                          char ret_why[static GT_PROTECTEDFILE_WHY]) GT_MUST_CHECK;
/* The same for a folder; *ret_fd serves for openat(2) and the like only (O_PATH). */
int gt_protectedfile_open_folder(const char *path, int *ret_fd,
                                 char ret_why[static GT_PROTECTEDFILE_WHY]) GT_MUST_CHECK;
/* Checks that a folder is this user's, and that no other user can write or replace it: its files
 * are written by this program alone. Returns 0 or E_UNUSABLE. */
int gt_protectedfile_check_own_folder(const char *path,
                                      char ret_why[static GT_PROTECTEDFILE_WHY]) GT_MUST_CHECK;
/* Checks that others have no access to a file, by its mode. For a file that was opened as one of
 * trust and contains a secret. Returns 0 or E_UNUSABLE. */
int gt_protectedfile_check_secret(mode_t mode,
                                  char ret_why[static GT_PROTECTEDFILE_WHY]) GT_MUST_CHECK;
/* Returns true for a text with a private key in PEM, which is a secret whatever its file's name. */
bool gt_protectedfile_has_private_key(struct gt_span text);
/* Returns true only if there is certainly no file of this name: not for a dangling link, and not
 * for a folder that cannot be searched. */
bool gt_protectedfile_is_absent(const char *path);
/* Returns when the file was written, 0 if it is missing. */
time_t gt_protectedfile_time(const char *path);
