/* SPDX-License-Identifier: ISC */
/*
 * Measurement of the cipher suites. The shortest of several times is that of the cipher alone:
 * interruptions by other processes, cold caches and a low clock rate only lengthen a time. Must
 * never block noticeably, also on a slow machine.
 */
#include "gotthard/tls/suite-choice.h"

#include <math.h>
#include <time.h>

#define N_ROUNDS_MIN 3 /* one interruption does not matter */
#define N_ROUNDS_MAX 16
#define BUDGET_S     0.004 /* after it, no round begins beyond the minimum */
/* ChaCha20 must save this much. Less is not worth slowing down a device that has instructions for
 * AES: the smallest of those lose 5 ns per byte with ChaCha20. */
#define GAIN_S (GT_SUITE_BLOCK * 1e-9)

enum { AES, CHACHA, N_SUITES };
static const enum gt_record_suite suites[N_SUITES] = {GT_RECORD_AES128, GT_RECORD_CHACHA20};

/* The suites take turns, so that a change of the clock rate affects both. */
enum gt_record_suite gt_suite_choose(gt_suite_time_fn time_record, void *userdata)
{
    double shortest[N_SUITES] = {INFINITY, INFINITY}, total = 0;

    for (int i = 0; i < N_ROUNDS_MAX && (i < N_ROUNDS_MIN || total < BUDGET_S); i++) {
        for (int suite = 0; suite < N_SUITES; suite++) {
            double took = time_record(userdata, suites[suite]);

            if (took < 0)
                return GT_RECORD_AES128;
            shortest[suite] = GT_MIN(shortest[suite], took);
            total += took;
        }
    }
    return shortest[AES] - shortest[CHACHA] >= GAIN_S ? GT_RECORD_CHACHA20 : GT_RECORD_AES128;
}

static double now_s(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* @userdata: the ciphers, struct gt_record[N_SUITES]. */
static double time_record(void *userdata, enum gt_record_suite suite)
{
    static const uint8_t content[GT_SUITE_BLOCK];
    uint8_t sealed[GT_SUITE_BLOCK + GT_RECORD_OVERHEAD];
    struct gt_record *records = userdata;
    const struct gt_span part = gt_span(content, sizeof(content));

    double began = now_s();
    int r = gt_record_seal(&records[suite == GT_RECORD_CHACHA20 ? CHACHA : AES], GT_RECORD_DATA,
                           &part, 1, sealed);
    return r ? -1 : now_s() - began;
}

static enum gt_record_suite measure(void)
{
    static const uint8_t secret[GT_KEY_SIZE]; /* nothing that it encrypts is sent */
    struct gt_record records[N_SUITES] = {0};
    enum gt_record_suite preferred = GT_RECORD_AES128;
    int r = 0;

    for (int i = 0; i < N_SUITES && r == 0; i++)
        r = gt_record_init(&records[i], suites[i], secret, true);
    if (r == 0)
        preferred = gt_suite_choose(time_record, records);
    for (int i = 0; i < N_SUITES; i++)
        gt_record_deinit(&records[i]);
    return preferred;
}

enum gt_record_suite gt_suite_preferred(void)
{
    static enum gt_record_suite preferred; /* 0: not measured yet */

    if (!preferred)
        preferred = measure();
    return preferred;
}
