/* SPDX-License-Identifier: ISC */
/*
 * What a program says to the kernel about itself before it does anything else: that its memory is
 * nobody else's business, and how much of it there may be. Nothing here fails: where the kernel
 * refuses, the program is as it was. A sanitizer needs what is given up here, and keeps it.
 */
#pragma once

#include "gotthard/base.h"

/* Keys are in this memory: no core file, no debugger of the same user. */
void gt_process_hide_memory(void);
/* Allocations beyond @n bytes in all fail (setrlimit(2), RLIMIT_DATA), until the limit is lifted
 * again, in this program or one that it became. */
void gt_process_limit_memory(size_t n);
void gt_process_lift_memory_limit(void);
