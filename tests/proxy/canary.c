/* SPDX-License-Identifier: ISC */
/*
 * The search for canaries. The last bytes of each direction are kept, one less than the longest
 * pattern, and searched together with the first bytes of the next read.
 */
#include "canary.h"

#include <string.h>

static struct canary {
    size_t n;
    uint64_t n_seen;
    uint8_t data[CANARY_BYTES];
} canaries[CANARY_MAX];
static size_t n_canaries;

int canary_add(const uint8_t *data, size_t n, size_t *ret_number)
{
    if (n_canaries == CANARY_MAX)
        return CANARY_E_FULL;
    canaries[n_canaries] = (struct canary){.n = n};
    memcpy(canaries[n_canaries].data, data, n);
    *ret_number = n_canaries++;
    return 0;
}

size_t canary_n(void)
{
    return n_canaries;
}

uint64_t canary_n_seen(size_t number)
{
    return canaries[number].n_seen;
}

static void canary_search(struct canary *canary, const uint8_t *data, size_t n)
{
    const uint8_t *at;

    while ((at = memmem(data, n, canary->data, canary->n))) {
        canary->n_seen++;
        n -= (size_t)(at + 1 - data);
        data = at + 1;
    }
}

/* Finds only matches that begin in the tail and end after it. */
static void canary_search_seam(struct canary *canary, const struct canary_tail *tail,
                               const uint8_t *data, size_t n)
{
    uint8_t seam[2 * CANARY_BYTES];
    size_t before = GT_MIN(tail->n, canary->n - 1), after = GT_MIN(n, canary->n - 1);

    memcpy(seam, tail->data + tail->n - before, before);
    memcpy(seam + before, data, after);
    canary_search(canary, seam, before + after);
}

static void canary_keep_tail(struct canary_tail *tail, const uint8_t *data, size_t n)
{
    size_t kept = n >= sizeof(tail->data) ? 0 : GT_MIN(tail->n, sizeof(tail->data) - n);
    size_t taken = GT_MIN(n, sizeof(tail->data));

    memmove(tail->data, tail->data + tail->n - kept, kept);
    memcpy(tail->data + kept, data + n - taken, taken);
    tail->n = kept + taken;
}

void canary_scan(struct canary_tail *tail, const uint8_t *data, size_t n)
{
    for (size_t i = 0; i < n_canaries; i++) {
        canary_search_seam(&canaries[i], tail, data, n);
        canary_search(&canaries[i], data, n);
    }
    canary_keep_tail(tail, data, n);
}
