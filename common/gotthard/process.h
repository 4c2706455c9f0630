/* SPDX-License-Identifier: ISC */
/*
 * What a program says to the kernel about itself before it does anything else: that its memory is
 * nobody else's business, and how much of it there may be. Nothing of that fails: where
 * the kernel refuses, the program is as it was. A sanitizer needs what is given up here, and
 * keeps it. And what a child of its own begins with.
 */
#pragma once

#include <spawn.h>

#include "gotthard/base.h"

/* Keys are in this memory: no core file, no debugger of the same user. */
void gt_process_hide_memory(void);
/* Allocations beyond @n bytes in all fail (setrlimit(2), RLIMIT_DATA), until the limit is lifted
 * again, in this program or one that it became. The stacks of threads are small from now on. */
void gt_process_limit_memory(size_t n);
void gt_process_lift_memory_limit(void);

/* For a child that is to begin as if from a shell: no signal blocked, each at its default.
 * @attributes is initialised (posix_spawnattr_init(3)). Returns a positive errno, as posix_spawn
 * does. */
int gt_process_spawn_fresh(posix_spawnattr_t *attributes) GT_MUST_CHECK;
