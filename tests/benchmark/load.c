/* SPDX-License-Identifier: ISC */
/*
 * The load of the benchmark, equal for all candidates. It measures between its own connections and
 * the target behind the candidate, and prints lines for tests/benchmark/measures.py.
 *
 *     load up|down -n STREAMS -t SECONDS
 *         "begin", then "end BYTES SECONDS". The transfer continues until the standard input ends,
 *         so that the CPU time of the processes between can be read meanwhile.
 *
 *     load echo -t SECONDS
 *         "end COUNT P50 P99": round trips of 64 bytes, in microseconds.
 *
 *     load beside -g AGE -t SECONDS
 *         "end COUNT P50 P99": the same, beside bulk connections that each end AGE seconds old.
 *
 *     load connect -n AT-ONCE -t SECONDS
 *         "end PER-SECOND P50 P99": connect, one round trip of 64 bytes, close. The microseconds
 *         are those from connect() to the last byte. -g SECONDS pass between two connections, as
 *         with an interactive user.
 *
 *     load burst -n CONNECTIONS
 *         "end WORST P50 P99": all of them are opened at once, each for one round trip.
 *
 *     load answer -t SECONDS
 *         "end COUNT P50 P99": connections that get an answer of WIRE_ANSWER_SIZE bytes each; -g as
 *         above.
 *
 *     load hold|again -n STREAMS
 *         "held SECONDS": each connection has transferred 64 bytes and is idle until the standard
 *         input ends. again: a line of the standard input lets each of them transfer 64 more;
 *         "again SECONDS" when the last one has.
 *
 * up, down and echo run for -w SECONDS before they measure. -p PORT is the candidate's port. -u
 * SOCKET selects gotthard-relayd itself and names the target's Unix socket; then -s streams share a
 * session. -c COUNTERS is the target's page (wire-format.h).
 */
#include "load.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "wire-format.h"

struct load load = {.path.per_session = 64, .n = 1, .seconds = 1, .warm_up = 0.2};

void fail(const char *what)
{
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

bool is_input_closed(void)
{
    struct pollfd pollfd = {STDIN_FILENO, POLLIN, 0};

    return poll(&pollfd, 1, 0) > 0;
}

void samples_say(struct samples *samples, double value)
{
    if (!samples->n)
        fail("no round trip");
    samples_sort(samples);
    printf("end %.1f %.1f %.1f\n", value, samples_at(samples, 50), samples_at(samples, 99));
}

void exchange(int fd)
{
    char message[MESSAGE] = "64 bytes: the size of a key press in ssh";

    if (send(fd, message, MESSAGE, MSG_NOSIGNAL) != MESSAGE ||
        recv(fd, message, MESSAGE, MSG_WAITALL) != MESSAGE)
        fail("round trip");
}

static void load_echo(void)
{
    static struct samples samples;
    int fd = path_dial(&load.path, WIRE_ECHO);
    double end = now() + load.warm_up / 4;

    while (now() < end)
        exchange(fd);
    end = now() + load.seconds;
    for (double begin = now(), after; begin < end; begin = after) {
        exchange(fd);
        after = now();
        samples_add(&samples, after - begin);
    }
    samples_say(&samples, (double)samples.n);
}

static void load_options(int argc, char **argv)
{
    int option;

    while ((option = getopt(argc, argv, "p:u:s:c:n:t:w:g:")) != -1)
        switch (option) {
        case 'p': load.path.port = (uint16_t)atoi(optarg); break;
        case 'u': load.path.target = optarg; break;
        case 's': load.path.per_session = (unsigned)atoi(optarg); break;
        case 'c': load.counters = optarg; break;
        case 'n': load.n = (unsigned)atoi(optarg); break;
        case 'g': load.gap = atof(optarg); break;
        case 'w': load.warm_up = atof(optarg); break;
        case 't': load.seconds = atof(optarg); break;
        case '?': exit(64);
        }
}

static const struct {
    const char *word;
    void (*run)(void);
} loads[] = {
    {"up", load_up},         {"down", load_down},   {"echo", load_echo},
    {"beside", load_beside}, {"burst", load_burst}, {"connect", load_connect},
    {"answer", load_answer}, {"hold", load_hold},   {"again", load_again},
};

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";

    setvbuf(stdout, NULL, _IOLBF, 0);
    load_options(argc - 1, argv + 1);
    path_init(&load.path);
    for (size_t i = 0; i < GT_ARRAY_SIZE(loads); i++)
        if (strcmp(what, loads[i].word) == 0) {
            loads[i].run();
            return 0;
        }
    return 64;
}
