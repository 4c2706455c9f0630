/* SPDX-License-Identifier: ISC */
/*
 * Restrictions that a program puts on itself before it does anything else: its memory is private
 * and limited. Also the initial state of its child processes. None of the restrictions can fail:
 * where the kernel refuses one, the program runs without it. They are not applied under a
 * sanitizer, which needs what the restrictions prevent.
 */
#pragma once

#include <spawn.h>

#include "gotthard/base/base.h"

/* True in a build with the address or thread sanitizer. */
bool gt_hardening_is_sanitized(void);
/* Prevents core files and debuggers of the same user: keys are in this memory. */
void gt_hardening_hide_memory(void);
/* Makes allocations beyond @n bytes in total fail (setrlimit(2), RLIMIT_DATA), and the stacks of
 * later threads small. The limit is inherited by exec(2), until it is lifted. */
void gt_hardening_limit_memory(size_t n);
void gt_hardening_lift_memory_limit(void);
/* Closes every descriptor from @first on. */
void gt_hardening_close_from(int first);

/* Sets up @attributes, which are initialized (posix_spawnattr_init(3)), for a child that starts as
 * from a shell: no signal blocked, each at its default. Returns 0 or a positive errno, as
 * posix_spawn(3) does. */
int gt_hardening_spawn_fresh(posix_spawnattr_t *attributes) GT_MUST_CHECK;
