/* SPDX-License-Identifier: ISC */
/*
 * The first uses of OpenSSL in a process. OpenSSL initializes each of its parts once, at the first
 * use. If memory is not available then, a part stays incomplete until the process ends: for
 * example one hash algorithm is missing, and every later TLS handshake fails. Neither a result nor
 * the error queue shows that. Therefore OpenSSL allocates through functions that count failures.
 */
#pragma once

#include "gotthard/base/base.h"

/* Returns the number of allocations by OpenSSL that have failed in this thread. */
unsigned gt_crypto_n_failed_allocations(void) GT_MUST_CHECK;

/* Runs @use, a first use of some part of OpenSSL. Ends the process if @use returns false, which
 * means that a required algorithm is missing, or at the first allocation that fails in it. */
void gt_crypto_first_use(bool (*use)(void));
/* Ends the process if an allocation failed since gt_crypto_n_failed_allocations() was @before. */
void gt_crypto_require_complete(unsigned before);
