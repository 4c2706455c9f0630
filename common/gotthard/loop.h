/* SPDX-License-Identifier: ISC */
/*
 * What libev does not do for its programs. Without memory it aborts, which is a crash; a program of
 * ours ends instead, says why, and has the exit status of an error inside.
 */
#pragma once

/* Before the first loop; for the whole process. */
void gt_loop_end_without_memory(void);
