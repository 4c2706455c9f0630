/* SPDX-License-Identifier: ISC */
/*
 * `gotthard-relayd enroll TOKEN` and `gotthard-relayd --install FILE`: this machine becomes a relay
 * of a fleet (docs/protocol.md, section 8). The running relay is not used. `enroll` is the only
 * part of this program that connects out: to the relay that the token names, which is another one.
 */
#pragma once

#include "gotthard/base/base.h"

struct enrolment_options {
    const char *token;   /* as gt_newcomer_read_token() */
    const char *bundle;  /* path of a bundle file, in place of the token */
    bool is_forced;      /* replaces an earlier enrolment */
    bool is_not_started; /* leaves the service alone */
};

/* Return the exit status. Facts go to standard output, errors to standard error. */
int enrolment_run(const struct enrolment_options *options);
int enrolment_install_file(const struct enrolment_options *options);
