/* SPDX-License-Identifier: ISC */
/* The output of `run`: lines of devices, results, the sum; for people or as events. */
#pragma once

#include "gotthard/base/bytes.h"
#include "print.h"

enum run_result {
    RUN_WAITING,
    RUN_RUNNING,
    RUN_OK,
    RUN_FAILED,      /* the command or ssh has another exit status than 0 */
    RUN_UNREACHABLE, /* not online, or there was no connection to its ssh server */
};

#define RUN_SSH_FAILED 255 /* ssh(1), EXIT STATUS: the login, the connection, or the command */

struct run_sum {
    size_t n, n_ok, n_failed, n_unreachable, n_running;
};

/* A line that a device has written: "NAME: line". Control characters are escaped, so that a device
 * can neither imitate another one nor control the terminal. */
void run_output_line(struct print *print, const char *device, bool is_error, struct gt_span line);
/* A line of standard error: returns true if ssh's proxy reports with it that it has failed, or ssh
 * that the server did not begin. */
bool run_output_is_unreachable(struct gt_span line);
/* A line of standard error. Returns true if it is the proxy's warning of a device without a pin.
 * It is one warning about all devices, printed unless *is_warned, which becomes true. */
bool run_output_take_warning(struct print *print, struct gt_span line, bool *is_warned);
void run_output_started(struct print *print, const char *device);
/* @status: of a FAILED one. @why: of one that was not tried, otherwise "". */
void run_output_ended(struct print *print, const char *device, enum run_result result, int status,
                      const char *why, double seconds);
void run_output_progress(struct print *print, const struct run_sum *sum);
void run_output_sum(struct print *print, const struct run_sum *sum);
/* Writes the line without control characters (\xHH in place of them) into @ret. Text that is not
 * UTF-8 is escaped as a whole. Returns @ret. */
const char *run_output_clean(struct gt_span line, char *ret, size_t cap);
