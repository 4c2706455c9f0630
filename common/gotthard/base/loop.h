/* SPDX-License-Identifier: ISC */
/*
 * Memory of libev's loops. libev has no error path: its allocator must succeed, and by default it
 * aborts. A loop grows with its descriptors and timers, so that one connection too many would end
 * all others. Here a loop continues in a reserve when the heap is exhausted. The reserve is never
 * returned; if it is exhausted too, the program logs the reason and exits with the status of an
 * internal error. See "OVERRIDING MEMORY ALLOCATION", ev_set_allocator, in ev(3).
 */
#pragma once

/* Enough for every array of a loop with some 10,000 timers: the old arrays stay in it too. */
#define GT_LOOP_RESERVE (2 << 20) /* bytes, for all loops of the process */

/* Applies to the whole process. Call it before the first loop is created. */
void gt_loop_set_allocator(void);
