/* SPDX-License-Identifier: ISC */
/*
 * The lines and words of pin files and access lists. Blank lines and lines that begin with # are
 * skipped. Words are separated by blanks or tabs. Lines end with LF or CRLF, and a byte order mark
 * may precede the first. Everything else must be printable ASCII. Pure.
 */
#pragma once

#include "gotthard/base/bytes.h"

#define GT_LINE_MAX 4096 /* bytes without the line end */

struct gt_lines {
    struct gt_span left; /* private */
    size_t n;            /* the number of the last line that was taken, from 1 */
};

enum {
    GT_LINES_E_SYNTAX = 1, /* *ret_why is a static text */
    GT_LINES_E_END,
};

/* Borrows @text. */
void gt_lines_init(struct gt_lines *lines, struct gt_span text);
/* Takes the next line that has a word. It borrows from the text. */
int gt_lines_next(struct gt_lines *lines, struct gt_span *ret_line,
                  const char **ret_why) GT_MUST_CHECK;
/* Removes the next word from @line and returns it; empty if there is none. */
struct gt_span gt_line_word(struct gt_span *line);
/* Removes the text up to and with @separator from @text; returns it without the separator. */
struct gt_span gt_line_until(struct gt_span *text, char separator);
