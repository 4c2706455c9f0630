/* SPDX-License-Identifier: ISC */
/*
 * The capacity of one relay: sessions and joined streams, more of them at each step, all of them
 * kept and idle. After a step it prints a line and waits for a line on its standard input, so that
 * tests/benchmark/scaling.py can inspect the relay meanwhile. It exits at the end of its input.
 *
 *     scale HOST PORT STEP STREAMS SESSIONS
 *         up to SESSIONS sessions, STEP at a time, with STREAMS streams each. After each step "step
 *         SESSIONS STREAMS SESSION-P50 SESSION-P99 PAIR-P50 PAIR-P99", the last four in us.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "relay-client.h"

#define STEP_MAX 4096

struct times {
    size_t n;
    double us[STEP_MAX];
};

static double now_us(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e6 + (double)time.tv_nsec / 1e3;
}

static void times_add(struct times *times, double begin)
{
    if (times->n < STEP_MAX)
        times->us[times->n++] = now_us() - begin;
}

static int times_compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double times_at(struct times *times, double part)
{
    if (!times->n)
        return 0;
    qsort(times->us, times->n, sizeof(*times->us), times_compare);
    return times->us[(size_t)((double)(times->n - 1) * part)];
}

static void step(struct relay_client *relay_client, unsigned n_sessions, unsigned n_streams,
                 struct times *sessions, struct times *pairs)
{
    for (unsigned i = 0; i < n_sessions; i++) {
        double begin = now_us();
        struct relay_client_session *session = relay_client_session_new(relay_client);

        times_add(sessions, begin);
        for (unsigned j = 0; j < n_streams; j++) {
            int fds[2];

            begin = now_us();
            relay_client_open(session, fds);
            times_add(pairs, begin);
        }
        relay_client_wait(relay_client, -1);
    }
}

int main(int argc, char **argv)
{
    static struct times sessions, pairs;
    struct relay_client *relay_client;
    unsigned n_step, n_streams, n_sessions;
    char line[16];

    if (argc != 6)
        return 64;
    relay_client = relay_client_new(argv[1], (uint16_t)atoi(argv[2]));
    n_step = (unsigned)atoi(argv[3]);
    n_streams = (unsigned)atoi(argv[4]);
    n_sessions = (unsigned)atoi(argv[5]);
    for (unsigned n = 0; n < n_sessions;) {
        unsigned part = GT_MIN(n_step, n_sessions - n);

        sessions.n = pairs.n = 0;
        step(relay_client, part, n_streams, &sessions, &pairs);
        n += part;
        printf("step %u %u %.1f %.1f %.1f %.1f\n", n, n * n_streams, times_at(&sessions, 0.5),
               times_at(&sessions, 0.99), times_at(&pairs, 0.5), times_at(&pairs, 0.99));
        fflush(stdout);
        relay_client_wait(relay_client, STDIN_FILENO);
        if (read(STDIN_FILENO, line, sizeof(line)) <= 0)
            return 0;
    }
    relay_client_wait(relay_client, STDIN_FILENO);
    return 0;
}
