/* SPDX-License-Identifier: ISC */
/* The words and options of an enrolment on the command line of a daemon. */
#pragma once

#include "gotthard/config/config.h"

struct gt_enrolment_options { /* zero-initialize */
    bool is_enrol;            /* enroll */
    const char *token;        /* its word, as gt_newcomer_read_token(); NULL: none */
    const char *bundle;       /* --install: path of a bundle file */
    bool is_forced;           /* --force: replaces an earlier enrolment */
    bool is_not_started;      /* --no-start: leaves the service alone */
};

/* As ->word and ->other of struct gt_config_parse. */
int gt_enrolment_options_word(struct gt_enrolment_options *options, const char *word);
int gt_enrolment_options_option(struct gt_enrolment_options *options, const char *option,
                                const char *value, bool *ret_takes_value);

/* Returns true if the command line requests an enrolment. */
bool gt_enrolment_options_is_used(const struct gt_enrolment_options *options);
/* Returns NULL, or why the command line is wrong. @has_command: it has another command, such as
 * --check-config. */
const char *gt_enrolment_options_check(const struct gt_enrolment_options *options,
                                       const struct gt_config_args *args, bool has_command);
