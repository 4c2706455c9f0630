/* SPDX-License-Identifier: ISC */
/*
 * Text in lines of at most 100 columns, and the escapes of manual pages, for the texts that follow
 * from tables: help, example files and parts of manual pages. Write errors are ignored.
 */
#pragma once

#include <stddef.h>

#define GT_WRAP_WIDTH 100

/* One paragraph. Start with column 0. */
struct gt_wrap {
    int fd;
    const char *prefix; /* of each line; borrowed */
    size_t column;      /* 0: no line begun */
};

/* Adds the words of @text, which are separated by blanks. */
void gt_wrap_text(struct gt_wrap *wrap, const char *text);
/* Ends the line. */
void gt_wrap_end(struct gt_wrap *wrap);
/* Writes a whole paragraph. */
void gt_wrap_paragraph(int fd, const char *prefix, const char *text);

/* Copies @text with a backslash before each character that scdoc(5) takes as markup, as far as it
 * fits into @cap bytes. Returns @ret. */
const char *gt_wrap_escape(const char *text, char *ret, size_t cap);
