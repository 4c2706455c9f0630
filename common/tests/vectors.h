/* SPDX-License-Identifier: ISC */
/*
 * Shared parts of the crypto tests: a hex decoder, a seeded random source, and the parameters of
 * the known-answer vectors of docs/protocol.md, section 6.
 */
#pragma once

#include <assert.h>
#include <stdio.h>
#include <time.h>

#include "gotthard/crypto/crypto.h"

/* A decoder independent of text.c, so that its faults are found. Returns the number of bytes. */
static inline size_t unhex(const char *text, uint8_t *ret)
{
    size_t n = strlen(text) / 2;

    for (size_t i = 0; i < n; i++) {
        unsigned byte;
        int n_read = sscanf(text + 2 * i, "%2x", &byte);

        assert(n_read == 1);
        (void)n_read;
        ret[i] = (uint8_t)byte;
    }
    return n;
}

static inline void hash_of(const char *text, uint8_t ret[static GT_KEY_SIZE])
{
    struct gt_span part = gt_span_text(text);
    int r = gt_sha256(&part, 1, ret);

    assert(r == 0);
    (void)r;
}

/* xorshift64*: the same bytes for the same seed on every machine. $SEED repeats a run. */
static uint64_t dice_state;

static inline void dice_init(void)
{
    const char *seed = getenv("SEED");

    dice_state = seed ? strtoull(seed, NULL, 0) : (uint64_t)time(NULL) * 0x9e3779b97f4a7c15u;
    dice_state |= 1;
    printf("SEED=%#llx\n", (unsigned long long)dice_state);
}

static inline uint64_t dice(void)
{
    dice_state ^= dice_state >> 12;
    dice_state ^= dice_state << 25;
    dice_state ^= dice_state >> 27;
    return dice_state * 0x2545f4914f6cdd1dull;
}

static inline void dice_fill(void *data, size_t n)
{
    for (size_t i = 0; i < n; i++)
        ((uint8_t *)data)[i] = (uint8_t)(dice() >> 56);
}
