/* SPDX-License-Identifier: ISC */
/*
 * A check of texts before libconfig parses them. libconfig 1.5 reads 4294967318 as 22 without an
 * error, ignores everything after an unclosed comment, aborts the program on `@include` of a
 * folder, and needs a minute for 100,000 keys. The check is one pass without allocations.
 */
#pragma once

#include "gotthard/base/bytes.h"

#define GT_CONFIG_SCAN_DEPTH    4    /* groups within groups */
#define GT_CONFIG_SCAN_SETTINGS 1000 /* `name = value` in one text */

enum { GT_CONFIG_SCAN_E_BAD = 1 };

/* Returns 0, or E_BAD with the line of the first error (from 1) and a static *ret_why (until the
 * next call) that describes it and the correct form. */
int gt_config_scan(struct gt_span text, unsigned *ret_line, const char **ret_why) GT_MUST_CHECK;
