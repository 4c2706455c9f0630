/* SPDX-License-Identifier: ISC */
/*
 * Patterns that must never pass the proxy in the clear, and how often each one did. Every byte read
 * is searched, and patterns that span two reads are found.
 */
#pragma once

#include "gotthard/base/base.h"

#define CANARY_MAX   32  /* patterns */
#define CANARY_BYTES 256 /* of one */

/* The end of what one direction has read so far. */
struct canary_tail {
    size_t n;
    uint8_t data[CANARY_BYTES - 1];
};

enum { CANARY_E_FULL = 1 };

/* *ret_number is the number for canary_n_seen(). E_FULL. */
int canary_add(const uint8_t *data, size_t n, size_t *ret_number) GT_MUST_CHECK;
size_t canary_n(void);
uint64_t canary_n_seen(size_t number);
void canary_scan(struct canary_tail *tail, const uint8_t *data, size_t n);
