/* SPDX-License-Identifier: ISC */
/*
 * Facts of a setting as text, for all texts that follow from a table of settings: the help, the
 * annotated file, the manual pages, completions.
 */
#pragma once

#include "gotthard/config/config.h"

/* Returns the name of the option's argument ("HOST"), "" if it takes none. */
const char *gt_configfacts_value_word(enum gt_config_type type);
/* Returns the default as text for people, or NULL if there is none. */
const char *gt_configfacts_default(const struct gt_config_item *item);
/* Writes "number, 1 to 65535, default 7000": the type, the range and the default. Returns @ret. */
const char *gt_configfacts_form(const struct gt_config_item *item, char *ret, size_t cap);

/* Returns the length of the group's name: the part of the path before the point. 0 for a MAP. */
size_t gt_configfacts_group_length(const struct gt_config_item *item);
/* Returns true if both are in the same group. A MAP is in no group. */
bool gt_configfacts_is_same_group(const struct gt_config_item *a, const struct gt_config_item *b);
/* Returns true for the first item of a group, at which the whole group is written. */
bool gt_configfacts_is_first(const struct gt_config_program *program, size_t at);
/* Returns the text of the item's group, "" if there is none. */
const char *gt_configfacts_group_help(const struct gt_config_program *program,
                                      const struct gt_config_item *item);
/* Returns true if any of @commands accepts the item's option; 0 is all commands. */
bool gt_configfacts_is_accepted(const struct gt_config_item *item, uint32_t commands);
