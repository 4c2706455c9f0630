/* SPDX-License-Identifier: ISC */
/*
 * The last good configuration: the values that were in use, in a private file of the state
 * directory. The agent starts with it when its present files contain an error, because the device
 * may have no other way in. Files of keys and certificates are named in it, not copied.
 *
 * The file ends with a checksum. One that is truncated, changed, or of another user is not used.
 */
#pragma once

#include "gotthard/config/config.h"

/* Writes the configuration as a whole, if it has changed. If that fails there is none afterwards:
 * an older one may grant more than the one in use, or have a key that was replaced. It stays only
 * if it can neither be removed nor truncated (a read-only file system). Failures are logged.
 * Without a state directory ($STATE_DIRECTORY) nothing happens. */
void last_good_save(const struct gt_config *config);

enum { LAST_GOOD_E_NONE = 3 }; /* there is none (@ret_error is empty), or it is not usable */
/* Loads it. E_NONE, or GT_CONFIG_E_FILE if a file that it names is not usable now, each with the
 * reason in @ret_error; or a negative errno. */
int last_good_load(const struct gt_config_program *program, struct gt_config **ret,
                   char ret_error[static GT_CONFIG_ERROR_MAX]) GT_MUST_CHECK;
