/* SPDX-License-Identifier: ISC */
/*
 * The cipher suite that this machine prefers for data connections. It is measured, because no
 * feature of a processor decides it: what counts is the code that this OpenSSL has for this
 * processor.
 *
 * The two ends of a data connection may prefer different suites. ChaCha20 is used if either end
 * prefers it (tls-context.c), and an end prefers it only if that saves it a nanosecond per byte. A
 * fast machine never does: it leaves the choice to the other end. So the slower end decides.
 */
#pragma once

#include "gotthard/tls/record.h"

#define GT_SUITE_BLOCK 2048 /* bytes of content of a measured record */

/* Seals a record of GT_SUITE_BLOCK bytes. Returns the time in seconds, or a negative number if the
 * suite cannot be measured. */
typedef double (*gt_suite_time_fn)(void *userdata, enum gt_record_suite suite);

/* Returns the preferred suite by three to 16 calls of @time_record for each, which end after 4 ms
 * where possible. After a failed measurement it is AES. */
enum gt_record_suite gt_suite_choose(gt_suite_time_fn time_record, void *userdata);

/* Returns the preferred suite of this machine. The first call measures: some 50 µs on a fast
 * machine, up to 5 ms on a slow one. Not for several threads at once. */
enum gt_record_suite gt_suite_preferred(void);
