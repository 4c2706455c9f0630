/* SPDX-License-Identifier: ISC */
/* The seccomp half of the confinement: system calls that fail with EPERM. */
#pragma once

#include "confinement.h"

/* Returns 0, or the negative errno of libseccomp or seccomp(2). */
int confinement_refuse_calls(enum confinement confinement) GT_MUST_CHECK;
