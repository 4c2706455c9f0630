/* SPDX-License-Identifier: ISC */
/*
 * What libconfig may be given. libconfig 1.5 reads 4294967318 as 22 with success, swallows the
 * rest of a file after an unclosed comment, ends the program on `@include` of a folder, and takes
 * a minute for 100,000 keys: so each text passes here first, in one go and without memory.
 */
#pragma once

#include "gotthard/bytes.h"

#define GT_CONFIGSCAN_DEPTH    4    /* groups within groups */
#define GT_CONFIGSCAN_SETTINGS 1000 /* `name = value` in one text */

enum { GT_CONFIGSCAN_E_BAD = 1 };

/* E_BAD: the first thing that is wrong is in line *ret_line; *ret_why (static) says what it is and
 * what would be right. */
int gt_configscan(struct gt_span text, unsigned *ret_line, const char **ret_why) GT_MUST_CHECK;
