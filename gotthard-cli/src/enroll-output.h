/* SPDX-License-Identifier: ISC */
/* The lines and events of `enroll`. */
#pragma once

#include "gotthard/trust/enrolment.h"
#include "provision.h"

/* Prints the token, with --qr as a QR code as well, and how the newcomer uses it. */
void enroll_print_token(const struct provision *provision, const struct gt_token *token);
/* Prints who asks to be enrolled. */
void enroll_print_request(const struct provision *provision,
                          const struct gt_enrolment_request *request);
/* Prints that the newcomer is enrolled, and what the operator has to do besides. */
void enroll_print_success(const struct provision *provision,
                          const struct gt_enrolment_request *request);
