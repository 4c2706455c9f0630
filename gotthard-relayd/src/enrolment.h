/* SPDX-License-Identifier: ISC */
/*
 * `gotthard-relayd enroll TOKEN` and `gotthard-relayd --install FILE`: this machine becomes a relay
 * of a fleet (docs/protocol.md, section 8). The running relay is not used. `enroll` is the only
 * part of this program that connects out: to the relay that the token names, which is another one.
 */
#pragma once

#include "gotthard/enrolment/enrolment-options.h"

/* Return the exit status. Facts go to standard output, errors to standard error. */
int enrolment_run(const struct gt_enrolment_options *options);
int enrolment_install_file(const struct gt_enrolment_options *options);
