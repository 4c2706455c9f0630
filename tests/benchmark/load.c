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
 *     load connect -n AT-ONCE -t SECONDS
 *         "end PER-SECOND P50 P99": connect, one round trip of 64 bytes, close. The microseconds
 * are those from connect() to the last byte. -g SECONDS pass between two connections, as with an
 *         interactive user.
 *
 *     load hold -n STREAMS
 *         "held SECONDS": each connection has transferred 64 bytes and is idle until the standard
 *         input ends.
 *
 * up, down and echo run for -w SECONDS before they measure. -p PORT is the candidate's port. -u
 * SOCKET selects gotthard-relayd itself and names the target's Unix socket; then -s streams share a
 * session. -c COUNTERS is the target's page (wire-format.h).
 */
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

#include "endpoints.h"
#include "wire-format.h"

#define BATCH   64
#define MESSAGE 64
#define SAMPLES (1 << 20)
#define AT_ONCE 64

static struct load {
    struct path path;
    unsigned n;
    double seconds, warm_up, gap;
    const char *counters;
} load = {.path.per_session = 64, .n = 1, .seconds = 1, .warm_up = 0.2};

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void fail(const char *what)
{
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static bool is_input_closed(void)
{
    struct pollfd pollfd = {STDIN_FILENO, POLLIN, 0};

    return poll(&pollfd, 1, 0) > 0;
}

/* --- samples --- */

struct samples {
    size_t n;
    float us[SAMPLES];
};

static void samples_add(struct samples *samples, double seconds)
{
    if (samples->n < SAMPLES)
        samples->us[samples->n++] = (float)(seconds * 1e6);
}

static int samples_compare(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;

    return (x > y) - (x < y);
}

static void samples_say(struct samples *samples, double value)
{
    if (!samples->n)
        fail("no round trip");
    qsort(samples->us, samples->n, sizeof(*samples->us), samples_compare);
    printf("end %.1f %.1f %.1f\n", value, (double)samples->us[samples->n / 2],
           (double)samples->us[samples->n * 99 / 100]);
}

static void exchange(int fd)
{
    char message[MESSAGE] = "64 bytes: the size of a key press in ssh";

    if (send(fd, message, MESSAGE, MSG_NOSIGNAL) != MESSAGE ||
        recv(fd, message, MESSAGE, MSG_WAITALL) != MESSAGE)
        fail("round trip");
}

/* --- up and down --- */

struct flow {
    bool is_up;
    int epoll_fd; /* the epoll */
    uint64_t n_received;
    struct wire_counters *counters;
    uint8_t counter;
};

static uint64_t flow_count(const struct flow *flow)
{
    return flow->is_up ? atomic_load(&flow->counters->n_discarded[flow->counter])
                       : flow->n_received;
}

static void flow_serve(struct flow *flow, int fd)
{
    static char buffer[WIRE_BUFFER];
    ssize_t n;

    if (flow->is_up) {
        for (int i = 0; i < 4; i++)
            if ((n = send(fd, buffer, sizeof(buffer), MSG_NOSIGNAL)) < (ssize_t)sizeof(buffer))
                break;
    } else if ((n = recv(fd, NULL, 1 << 20, MSG_TRUNC)) > 0) {
        flow->n_received += (uint64_t)n;
    }
    if (n == 0 || (n < 0 && errno != EAGAIN))
        fail("the stream ended");
}

static void flow_run(struct flow *flow, double until)
{
    struct epoll_event events[BATCH];
    double left;

    while ((left = until - now()) > 0) {
        int n = epoll_wait(flow->epoll_fd, events, BATCH, (int)(left * 1000) + 1);

        for (int i = 0; i < n; i++)
            flow_serve(flow, events[i].data.fd);
    }
}

/* It ends with a reset: buffered data would still be transferred during the next measurement. */
static void flow_begin(const struct flow *flow, int fd)
{
    struct linger linger = {1, 0};

    setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
    if (flow->is_up && send(fd, &flow->counter, 1, MSG_NOSIGNAL) != 1)
        fail("second byte");
}

static void flow_open(struct flow *flow)
{
    for (unsigned i = 0; i < load.n; i++) {
        struct epoll_event event = {.events = flow->is_up ? EPOLLOUT : EPOLLIN};

        event.data.fd = path_dial(&load.path, flow->is_up ? WIRE_DISCARD : WIRE_SOURCE);
        flow_begin(flow, event.data.fd);
        fcntl(event.data.fd, F_SETFL, O_NONBLOCK);
        epoll_ctl(flow->epoll_fd, EPOLL_CTL_ADD, event.data.fd, &event);
    }
}

static void load_flow(bool is_up)
{
    struct flow flow = {
        .is_up = is_up,
        .epoll_fd = epoll_create1(EPOLL_CLOEXEC),
        .counter = (uint8_t)(getpid() % WIRE_COUNTERS),
    };
    uint64_t before;
    double begin;

    if (is_up && (!load.counters || !(flow.counters = wire_map(load.counters))))
        fail("counters");
    flow_open(&flow);
    flow_run(&flow, now() + load.warm_up);
    puts("begin");
    before = flow_count(&flow);
    begin = now();
    flow_run(&flow, begin + load.seconds);
    printf("end %llu %.6f\n", (unsigned long long)(flow_count(&flow) - before), now() - begin);
    while (!is_input_closed())
        flow_run(&flow, now() + 0.01);
}

/* --- echo --- */

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

/* --- connect --- */

static struct connecting {
    pthread_mutex_t lock;
    struct samples samples;
    double end;
} connecting = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void *connecting_run(void *userdata)
{
    struct timespec gap = {(time_t)load.gap, (long)((load.gap - (double)(time_t)load.gap) * 1e9)};
    double begin;

    while ((begin = now()) < connecting.end) {
        int fd = path_dial(&load.path, WIRE_ECHO);

        exchange(fd);
        pthread_mutex_lock(&connecting.lock);
        samples_add(&connecting.samples, now() - begin);
        pthread_mutex_unlock(&connecting.lock);
        close(fd);
        nanosleep(&gap, NULL);
    }
    return NULL;
}

static void load_connect(void)
{
    pthread_t threads[AT_ONCE];
    unsigned n = GT_MIN(load.n, AT_ONCE);
    double begin = now();

    connecting.end = begin + load.seconds;
    for (unsigned i = 0; i < n; i++)
        if (pthread_create(&threads[i], NULL, connecting_run, NULL))
            fail("thread");
    for (unsigned i = 0; i < n; i++)
        pthread_join(threads[i], NULL);
    samples_say(&connecting.samples, (double)connecting.samples.n / (now() - begin));
}

/* --- hold --- */

static void load_hold(void)
{
    double begin = now();

    for (unsigned i = 0; i < load.n; i++)
        exchange(path_dial(&load.path, WIRE_ECHO));
    printf("held %.3f\n", now() - begin);
    path_wait(&load.path, STDIN_FILENO);
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

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";

    setvbuf(stdout, NULL, _IOLBF, 0);
    load_options(argc - 1, argv + 1);
    path_init(&load.path);
    if (strcmp(what, "up") == 0 || strcmp(what, "down") == 0)
        load_flow(strcmp(what, "up") == 0);
    else if (strcmp(what, "echo") == 0)
        load_echo();
    else if (strcmp(what, "connect") == 0)
        load_connect();
    else if (strcmp(what, "hold") == 0)
        load_hold();
    else
        return 64;
    return 0;
}
