/* SPDX-License-Identifier: ISC */
/*
 * Log lines on standard error: `<N>` priorities when fd 2 is the journal ($JOURNAL_STREAM, see
 * systemd.exec(5)), ISO time and level otherwise. Writing never blocks and never fails loudly: a
 * line that standard error cannot take at once is dropped and counted. Floors 0 to 2 never log
 * above debug. Remote strings pass through gt_text_escape() before they come here; what is not
 * printable ASCII and reaches it all the same is shown as '?'. A line is cut at about 1000 bytes.
 */
#pragma once

#include "gotthard/base.h"

enum gt_log_level { GT_LOG_DEBUG, GT_LOG_INFO, GT_LOG_WARN, GT_LOG_ERROR };

/* @program (keeps) stands before each line outside the journal. May be called again. */
void gt_log_open(const char *program, enum gt_log_level level);
enum gt_log_level gt_log_level(void);
int gt_log_parse_level(const char *text, enum gt_log_level *ret_level) GT_MUST_CHECK;

/* @err is an errno (either sign) whose text ends the line, or 0. */
void gt_log(enum gt_log_level level, int err, const char *fmt, ...) GT_PRINTF(3, 4);

/* '?' for each byte of @text that is not printable ASCII: what every line passes through. */
void gt_log_clean(char *text);

#define gt_debug(...)            gt_log(GT_LOG_DEBUG, 0, __VA_ARGS__)
#define gt_info(...)             gt_log(GT_LOG_INFO, 0, __VA_ARGS__)
#define gt_warn(...)             gt_log(GT_LOG_WARN, 0, __VA_ARGS__)
#define gt_error(...)            gt_log(GT_LOG_ERROR, 0, __VA_ARGS__)
#define gt_warn_errno(err, ...)  gt_log(GT_LOG_WARN, err, __VA_ARGS__)
#define gt_error_errno(err, ...) gt_log(GT_LOG_ERROR, err, __VA_ARGS__)

/*
 * What strangers cause is logged at most @burst times per second and cause; the first line after a
 * silence says how many were left out. Zero-initialise one per cause.
 */
struct gt_log_rate {
    uint64_t second; /* of CLOCK_MONOTONIC */
    unsigned n_logged;
    unsigned n_left_out;
};

/* May this be logged now? From any thread. If so, *ret_left_out is how many were not since the last
 * one. */
bool gt_log_is_allowed(struct gt_log_rate *rate, unsigned burst, unsigned *ret_left_out);
