/* SPDX-License-Identifier: ISC */
/*
 * One value: from text to its place in a settings struct and back. Every layer, the file included,
 * hands its values over as text, so that there is one parser and one wording for all of them.
 */
#pragma once

#include "gotthard/config.h"

#define GT_CONFIGVALUE_MAX 4096 /* bytes of a value's text */

/* Writes the sentence into @ret_error (of GT_CONFIG_ERROR_MAX) and returns GT_CONFIG_E_BAD. */
int gt_configvalue_bad(char *ret_error, const char *fmt, ...) GT_PRINTF(2, 3);

/* Is it kept as a char *, so that an empty text means "not given"? (A CHOICE is not: it must be one
 * of its words.) */
bool gt_configvalue_is_string(enum gt_config_type type);

/* What the item takes, for a sentence: "a whole number from 1 to 65535". Returns @ret. */
const char *gt_configvalue_wanted(const struct gt_config_item *item, char *ret, size_t cap);

/* Replaces the value in @settings. On failure it stays, and @ret_error says
 * "<origin>: <path>: what is wrong; what would be right". */
int gt_configvalue_set(const struct gt_config_item *item, void *settings, const char *text,
                       const char *origin, char *ret_error) GT_MUST_CHECK;

/* Frees what the item holds in @settings; a secret is wiped first. */
void gt_configvalue_unset(const struct gt_config_item *item, void *settings);

/* Wipes and frees a text. */
void gt_configvalue_forget(char *text);
