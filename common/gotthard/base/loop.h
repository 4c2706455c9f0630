/* SPDX-License-Identifier: ISC */
/*
 * Out-of-memory handler of libev. By default libev aborts, which looks like a crash. Instead the
 * program logs the reason and exits with the status of an internal error.
 */
#pragma once

/* Applies to the whole process. Call it before the first loop is created. */
void gt_loop_exit_on_out_of_memory(void);
