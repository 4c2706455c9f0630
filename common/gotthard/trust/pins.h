/* SPDX-License-Identifier: ISC */
/*
 * Pin files: trusted keys, one per line (pin.h) in the form of lines.h:
 *
 *     NAME  SPKI-SHA256  [role=operator|admin|device] [services=a,b|*] [until=YYYY-MM-DD]
 *
 * A name may have several pins, for a change of keys. One malformed line rejects the whole file,
 * and a file without pins denies all.
 */
#pragma once

#include "gotthard/trust/pin.h"

#define GT_PINS_MAX 10000

enum { GT_PINS_E_SYNTAX = 1 };

/* Returns 0 and an array that the caller releases with gt_pins_free(), E_SYNTAX with *ret_line
 * (from 1) and a static *ret_why, or -ENOMEM. */
int gt_pins_parse(struct gt_span text, struct gt_pin **ret_pins, size_t *ret_n, size_t *ret_line,
                  const char **ret_why) GT_MUST_CHECK;
void gt_pins_free(struct gt_pin *pins, size_t n);
