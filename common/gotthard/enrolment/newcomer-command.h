/* SPDX-License-Identifier: ISC */
/*
 * The command `enroll` or `join` of a program: reads the token, shows the fingerprint and the
 * progress, and runs a newcomer (newcomer.h) to its end. Facts go to standard output, errors to
 * standard error.
 */
#pragma once

#include "gotthard/enrolment/newcomer.h"

#define GT_NEWCOMER_WHY 400 /* bytes of a reason with its NUL */

enum { GT_NEWCOMER_E_TOKEN = 1 }; /* a reason was written to @ret_why */

/* Prints "@program: " and a line to standard error, escaped. */
void gt_newcomer_print_error(const char *program, const char *fmt, ...) GT_PRINTF(2, 3);

/*
 * Reads a token. @word: its text; or the path of a file, or "-" or NULL for standard input, which
 * keep it out of the list of processes. @kind: of this program. Returns 0, E_TOKEN, or a negative
 * errno. The caller wipes @ret.
 */
int gt_newcomer_read_token(const char *word, enum gt_token_kind kind, struct gt_token *ret,
                           char ret_why[static GT_NEWCOMER_WHY]) GT_MUST_CHECK;

/* Overwrites the secret part of a token among the arguments of this process, @word of argv: every
 * user of the machine reads them while the program waits. For after gt_newcomer_read_token(). No
 * effect on other words and NULL. */
void gt_newcomer_hide_token(const char *word);

struct gt_newcomer_command {
    const char *program;          /* "gotthard-agentd" */
    const struct gt_token *token; /* and all of this: borrowed during the call */
    const struct gt_span *host_keys;
    size_t n_host_keys;
    const struct gt_proxy *proxy; /* NULL: none */
    bool is_single_port;
    /* As on_bundle of struct gt_newcomer_events. @private_key: of the certificate, PEM; it exists
     * nowhere else. */
    bool (*on_bundle)(void *userdata, const struct gt_bundle *bundle, struct gt_span private_key,
                      char *ret_why);
    void *userdata;
};

/* Returns the exit status; errors are printed. */
enum gt_exit_status gt_newcomer_run(const struct gt_newcomer_command *command);
