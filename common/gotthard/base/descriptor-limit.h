/* SPDX-License-Identifier: ISC */
/*
 * The limit of file descriptors of this process. Its soft limit is often 1,024, because programs
 * with select(2) need that; the programs here use epoll(7).
 */
#pragma once

#include "gotthard/base/base.h"

/* Raises the soft limit (setrlimit(2), RLIMIT_NOFILE) to @n, or to the hard limit if that is less.
 * A greater soft limit stays. Children inherit it. Returns the soft limit. */
size_t gt_descriptor_limit_raise(size_t n);
