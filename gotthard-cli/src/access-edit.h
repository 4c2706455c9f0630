/* SPDX-License-Identifier: ISC */
/*
 * `access edit`: the person's editor on a copy of the list, which is checked before it is signed.
 * A copy that was changed and is not valid stays, so that no work is lost.
 */
#pragma once

#include "access-change.h"

/* Returns as access_change_apply(). A copy without changes is a success. */
int access_edit(struct access_change *change, struct failure *ret_failure) GT_MUST_CHECK;
