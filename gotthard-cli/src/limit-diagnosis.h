/* SPDX-License-Identifier: ISC */
/*
 * The sentences for a tunnel that a limit ended: which setting it was, and of which program.
 */
#pragma once

#include "diagnosis.h"

/* Describes @end if a limit caused it. Returns false otherwise. */
bool limit_diagnosis(const struct tunnel_end *end, struct failure *ret) GT_MUST_CHECK;
/* The same for a @code of the relay, which either side may have received. */
bool limit_diagnosis_of_code(const char *device, enum gt_code code,
                             struct failure *ret) GT_MUST_CHECK;
