/* SPDX-License-Identifier: ISC */
/*
 * Text in the width of a terminal: paragraphs are wrapped at blanks, and a line that must stay in
 * one row is shortened. Columns are counted as characters of UTF-8.
 */
#pragma once

#include "gotthard/base/base.h"

#define PRINT_WIDTH_MIN     20
#define PRINT_PROGRESS_MARK 5 /* columns of a progress line that its text cannot have, at most */

/* Returns the width of the terminal @fd, at least PRINT_WIDTH_MIN, or 0 if it is unknown. */
unsigned print_terminal_width(int fd);
/* Copies @text into @ret with each line wrapped to @width columns (0: as it is). Continuation lines
 * are indented as their line, by 2 at least. A word that is longer than a line is not divided, so
 * that it can be copied. Text that does not fit into @cap is cut off. Returns the number of bytes.
 */
size_t print_wrap(const char *text, unsigned width, char *ret, size_t cap);
/* Returns the columns of @text. */
size_t print_columns(const char *text);
/* Shortens @text to @width columns (0: not at all); the last ones are "..." then. Returns @text. */
char *print_shorten(char *text, unsigned width);
