/* SPDX-License-Identifier: ISC */
/*
 * Log lines on standard error: with `<N>` priorities if it is the journal ($JOURNAL_STREAM, see
 * systemd.exec(5)), else with ISO time and level. Logging never blocks and reports no error: a line
 * that standard error does not accept at once is dropped and counted. Text from outside needs no
 * care: every %s is escaped, and a value is quoted where needed (format.h). Lines are truncated to
 * about 1000 bytes. Thread-safe.
 */
#pragma once

#include <stdarg.h>

#include "gotthard/base/base.h"

enum gt_log_level { GT_LOG_DEBUG, GT_LOG_INFO, GT_LOG_WARN, GT_LOG_ERROR };

/* @program (kept) precedes each line outside the journal. May be called again. */
void gt_log_open(const char *program, enum gt_log_level level);
/* For a process that will be allowed to open no file: opens fd 2 again now if it is a pipe or a
 * terminal, for all later lines. */
void gt_log_keep_stream(void);
enum gt_log_level gt_log_level(void);
/* Parses "debug", "info", "warn" or "error". Returns 0, or 1 for any other @text. */
int gt_log_parse_level(const char *text, enum gt_log_level *ret_level) GT_MUST_CHECK;

/* @err: an errno of either sign, whose text is appended to the line, or 0. */
void gt_log(enum gt_log_level level, int err, const char *fmt, ...) GT_PRINTF(3, 4);
void gt_vlog(enum gt_log_level level, int err, const char *fmt, va_list args) GT_PRINTF(3, 0);

#define gt_debug(...)            gt_log(GT_LOG_DEBUG, 0, __VA_ARGS__)
#define gt_info(...)             gt_log(GT_LOG_INFO, 0, __VA_ARGS__)
#define gt_warn(...)             gt_log(GT_LOG_WARN, 0, __VA_ARGS__)
#define gt_error(...)            gt_log(GT_LOG_ERROR, 0, __VA_ARGS__)
#define gt_warn_errno(err, ...)  gt_log(GT_LOG_WARN, err, __VA_ARGS__)
#define gt_error_errno(err, ...) gt_log(GT_LOG_ERROR, err, __VA_ARGS__)

/*
 * Rate limit of lines that unauthenticated peers can cause, per cause. The next line after a pause
 * has the number of suppressed ones. Zero-initialize one per cause.
 */
struct gt_log_rate {
    uint64_t second; /* of gt_clock_ms() */
    unsigned n_logged;
    unsigned n_suppressed;
};

/* Returns true if a line may be logged now: at most @burst per second. *ret_n_suppressed is then
 * the number of lines suppressed since the last one. Thread-safe. */
bool gt_log_is_allowed(struct gt_log_rate *rate, unsigned burst, unsigned *ret_n_suppressed);
