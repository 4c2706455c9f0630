/* SPDX-License-Identifier: ISC */
/*
 * The sentences for a tunnel that a limit ended: which setting it was, and of which program.
 */
#pragma once

#include "diagnosis.h"

/* Describes @end if a limit caused it. Returns false otherwise. */
bool limit_diagnosis(const struct tunnel_end *end, struct failure *ret) GT_MUST_CHECK;
/* The same for a @code that the relay sent to the device, with the device's text @why. */
bool limit_diagnosis_of_report(const char *device, enum gt_code code, const char *why,
                               struct failure *ret) GT_MUST_CHECK;
