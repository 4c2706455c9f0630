/* SPDX-License-Identifier: ISC */
/*
 * printf(3) for lines that contain text from outside: every %s is escaped, so that no line depends
 * on its caller for that. The result is printable ASCII, except for the literal text of a
 * GT_FORMAT_TEXT. Escapes have one form, \xHH.
 *
 * In a GT_FORMAT_LOG "key=" begins a field. Its value ends at the next blank of the format, and is
 * quoted if it is empty or has a blank, a quote, = or a backslash; these last three become \xHH. Or
 * the format itself has the quotes: key="%s". In the text between the fields \xHH stands for a
 * backslash, and for each = after another character. A line can therefore be read back to its
 * fields (tests/lib/log_fields.py). "%-s" is for fields that a GT_FORMAT_LOG has written before.
 */
#pragma once

#include <stdarg.h>

#include "gotthard/base/base.h"

enum gt_format_form {
    GT_FORMAT_TEXT, /* for a terminal, the service manager, or one argument of another line */
    GT_FORMAT_LOG,
};

#define GT_FORMAT_VALUE_MAX 400 /* bytes of one value in a log line; a longer one ends in "..." */

/* Returns the length without the NUL, as vsnprintf(3): it was truncated if that is @cap or more. A
 * truncated quoted value is closed. Knows %d %i %u %x %X %o %c %s %p %f %e %g %% with flags, width,
 * precision and length; others end the line. */
GT_PRINTF(4, 0)
size_t gt_vformat(enum gt_format_form form, char *ret, size_t cap, const char *fmt, va_list args);
GT_PRINTF(4, 5)
size_t gt_format(enum gt_format_form form, char *ret, size_t cap, const char *fmt, ...);
