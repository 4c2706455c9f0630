/* SPDX-License-Identifier: ISC */
/*
 * Paths as people write them in settings: absolute, below the home ("~/keys"), or relative to the
 * folder of the file that has the setting (for a variable or an option: to the working directory).
 */
#pragma once

#include "gotthard/base/base.h"

/* Returns 0 and the absolute path in *ret, which the caller frees; 1 with a static reason in
 * *ret_why; or -ENOMEM. @folder: for a relative path, absolute; NULL: the working directory. */
int gt_configpath_resolve(const char *text, const char *folder, char **ret,
                          const char **ret_why) GT_MUST_CHECK;
/* The same for several paths separated by blanks. */
int gt_configpath_resolve_all(const char *text, const char *folder, char **ret,
                              const char **ret_why) GT_MUST_CHECK;
/* Writes the folder of a user's own files: $XDG_CONFIG_HOME/gotthard, by default
 * ~/.config/gotthard (PATH_MAX bytes). Returns false without a home in the environment. */
bool gt_configpath_home(char *ret);
/* Returns the folder of the file @path, absolute; the caller frees it. NULL: out of memory, or
 * there is no working directory. Symbolic links are not followed. */
char *gt_configpath_folder(const char *path);
