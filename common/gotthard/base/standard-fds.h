/* SPDX-License-Identifier: ISC */
/*
 * Opening of the standard descriptors 0 to 2. A program that is started with one of them closed
 * would get its next socket or epoll descriptor under that number, and would then write its log or
 * its output into it. Every program calls this before it opens any other descriptor.
 */
#pragma once

#include "gotthard/base/base.h"

/* Opens /dev/null on each of the descriptors 0 to 2 that is closed. Standard input and output are
 * opened read-only: a write to a lost standard output fails with EBADF, so that the loss can be
 * reported. Open descriptors stay untouched. Returns 0, or a negative errno. Not thread-safe. */
int gt_standard_fds_open(void) GT_MUST_CHECK;
