/* SPDX-License-Identifier: ISC */
/*
 * One value: from text to its member of a settings struct. Every layer, including the file, passes
 * values as text, so that all share one parser and one set of messages.
 */
#pragma once

#include "gotthard/config/config.h"

#define GT_CONFIGVALUE_MAX 4096 /* bytes of a value's text */

/* Formats a message into @ret_error (GT_CONFIG_ERROR_MAX). Returns GT_CONFIG_E_BAD. */
int gt_configvalue_bad(char *ret_error, const char *fmt, ...) GT_PRINTF(2, 3);

/* Returns true for a type whose empty text means "not given". CHOICE is not one of them: it must be
 * one of its words. */
bool gt_configvalue_is_string(enum gt_config_type type);

/* Writes the accepted values for a sentence: "a whole number from 1 to 65535". Returns @ret. */
const char *gt_configvalue_wanted(const struct gt_config_item *item, char *ret, size_t cap);

/* Writes the type and the range for a list: "number, 1 to 65535". Returns @ret. */
const char *gt_configvalue_form(const struct gt_config_item *item, char *ret, size_t cap);

/* Returns true if gt_configvalue_set() would accept @text for a PROXY, and for all other types. */
bool gt_configvalue_is_usable(const struct gt_config_item *item, const char *text);

/* Replaces the value in @settings. Returns 0, -ENOMEM, or E_BAD and writes
 * "<origin>: <path>: error, expected form". After a failure the value is unchanged. */
int gt_configvalue_set(const struct gt_config_item *item, void *settings, const char *text,
                       const char *origin, char *ret_error) GT_MUST_CHECK;

/* Wipes and frees the value of the item in @settings. */
void gt_configvalue_unset(const struct gt_config_item *item, void *settings);

/* Wipes and frees a text; takes NULL. */
void gt_configvalue_forget(char *text);
