/* SPDX-License-Identifier: ISC */
/*
 * The widths of a table's columns on a terminal: the longest texts are shortened first, then whole
 * columns are left out, so that a line is never wider than the terminal.
 */
#pragma once

#include "gotthard/base/bytes.h"

#define TABLE_GAP 2 /* blanks between columns */

struct table_column {
    const char *title;
    int width;    /* of the longest text, at least that of the title; the result: 0 is left out */
    int min;      /* it may be shortened to this width; 0: never */
    int priority; /* the column with the greatest is left out first; 0: never */
};

/* Returns the width of the terminal that standard output is, or 0 if it is none. */
int table_terminal_width(void);
/* Changes the widths so that a line fits into @width. 0: any width fits. */
void table_fit(struct table_column *columns, size_t n, int width);
/* Copies @text (ASCII), shortened to @width columns with "..." or, below 4, without. Returns @ret.
 */
const char *table_cell(const char *text, int width, char *ret, size_t cap);
