/* SPDX-License-Identifier: ISC */
/*
 * The list of a diagnosis: one row for each hop of a connection, from the configuration to the
 * target, with a result. A row that is not right has a cause, a remedy that can be typed, and the
 * id of the failure that a command reports in the same situation. It neither checks nor prints:
 * both programs add rows, and get them back complete.
 */
#pragma once

#include "gotthard/base/base.h"

enum gt_check_result {
    GT_CHECK_OK,
    GT_CHECK_WARNING, /* works, but not as it should, or not for long */
    GT_CHECK_FAILURE,
    GT_CHECK_SKIPPED, /* an earlier failure makes it meaningless */
};
#define GT_CHECK_RESULTS (GT_CHECK_SKIPPED + 1)

#define GT_CHECK_TEXT   640 /* bytes of a text of a row, with its NUL */
#define GT_CHECK_REMEDY 640
#define GT_CHECK_LINES  8192 /* enough for each form of a row */

struct gt_check_row {
    const char *name; /* of the hop, the same in each run */
    enum gt_check_result result;
    char text[GT_CHECK_TEXT];     /* OK: the finding; else the cause */
    char remedy[GT_CHECK_REMEDY]; /* WARNING and FAILURE; else empty */
    int id, exit;                 /* FAILURE: of [GTD-E<id>], and the exit status */
};

struct gt_checkup { /* zero-initialize, and set the first two members */
    void (*on_row)(void *userdata, const struct gt_check_row *row);
    void *userdata;
    int exit; /* of the first failure, or 0 */
    unsigned n[GT_CHECK_RESULTS];
    bool is_interrupted; /* rows are dropped from now on */
};

struct gt_check_fault { /* what a failed row has besides its cause */
    int id, exit;
    const char *remedy;
};

/* Each adds a row. @name: static, or valid until @on_row returns. */
void gt_checkup_ok(struct gt_checkup *checkup, const char *name, const char *fmt, ...)
    GT_PRINTF(3, 4);
void gt_checkup_warn(struct gt_checkup *checkup, const char *name, const char *remedy,
                     const char *fmt, ...) GT_PRINTF(4, 5);
void gt_checkup_fail(struct gt_checkup *checkup, const char *name,
                     const struct gt_check_fault *fault, const char *fmt, ...) GT_PRINTF(4, 5);
void gt_checkup_skip(struct gt_checkup *checkup, const char *name, const char *why);

struct gt_check_style {
    bool has_marks, has_color; /* UTF-8 symbols; escape sequences */
    unsigned width;            /* columns; 0: no line is broken */
};
/* Writes the row as lines for people; text from outside is escaped. Returns @ret. */
const char *gt_check_format(const struct gt_check_row *row, const struct gt_check_style *style,
                            char *ret, size_t cap);
/* Writes the row as one line of JSON, with the members event ("check"), check, result, text, and
 * where there is one hint and id. Text from outside is escaped. Returns @ret. */
const char *gt_check_format_json(const struct gt_check_row *row, char *ret, size_t cap);
/* The last line: how many failures and warnings there were. */
const char *gt_checkup_format(const struct gt_checkup *checkup, char *ret, size_t cap);
/* Returns "ok", "warning", "failure" or "skipped", for JSON. */
const char *gt_check_result_text(enum gt_check_result result);
/* Returns the style for standard output: the terminal's width, the locale, NO_COLOR and TERM. */
struct gt_check_style gt_check_style_of_stdout(bool is_plain_color);
