/* SPDX-License-Identifier: ISC */
/*
 * Settings in sentences for people: a setting together with the place that its value came from, or
 * the place in which to set it. Names the file if settings come from files, and the variable if all
 * come from variables.
 */
#pragma once

#include "gotthard/config/config.h"

#define GT_CONFIG_MENTION 320 /* bytes, with the NUL: enough for any path of 200 bytes */

/*
 * Writes the setting @path and where its value came from:
 *
 *     mqtt.cert_path (/home/alice/.config/gotthard/cli.conf:7)
 *     GOTTHARD_AWS_CERT_PATH                                      from a variable
 *     --cert-path                                                 from the command line
 *     crypt.key (/home/alice/fleet.key)                           a secret from a file of its own
 *     mqtt.prefix (default; set it in ~/.config/gotthard/cli.conf)
 *
 * @config: NULL writes @path alone. A text longer than @cap is truncated. Returns @ret.
 */
const char *gt_config_mention(const struct gt_config *config, const char *path, char *ret,
                              size_t cap);
/* Writes the setting @path and where to set it: "mqtt.endpoint in ~/.config/gotthard/cli.conf", or
 * the variable if all values come from variables. A secret belongs into a file of its own:
 * "crypt.key_file in ...". A setting that is set: as gt_config_mention(). */
const char *gt_config_mention_place(const struct gt_config *config, const char *path, char *ret,
                                    size_t cap);
/*
 * Writes @text with each "{setting.path}" replaced by gt_config_mention(), and each
 * "{+setting.path}" by gt_config_mention_place(). Other braces stay. Returns @ret, as above.
 */
const char *gt_config_mention_all(const struct gt_config *config, const char *text, char *ret,
                                  size_t cap);
