/* SPDX-License-Identifier: ISC */
/* New connections: one after another, many at once, with an answer, and held. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

#include "load.h"
#include "wire-format.h"

#define BATCH   64
#define AT_ONCE 64
#define BURST   1024

/* --- one after another --- */

static void pause_between(void)
{
    struct timespec gap = {(time_t)load.gap, (long)((load.gap - (double)(time_t)load.gap) * 1e9)};

    nanosleep(&gap, NULL);
}

static struct connecting {
    pthread_mutex_t lock;
    struct samples samples;
    double end;
} connecting = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void *connecting_run(void *userdata)
{
    double begin;

    while ((begin = now()) < connecting.end) {
        int fd = path_dial(&load.path, WIRE_ECHO);

        exchange(fd);
        pthread_mutex_lock(&connecting.lock);
        samples_add(&connecting.samples, now() - begin);
        pthread_mutex_unlock(&connecting.lock);
        close(fd);
        pause_between();
    }
    return NULL;
}

void load_connect(void)
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

/* --- many at once --- */

struct burst {
    int epoll_fd;
    double begin;
    size_t n_received[BURST];
    int fds[BURST];
    struct samples samples;
};

static void burst_watch(struct burst *burst, unsigned i, int how, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.u32 = i};

    epoll_ctl(burst->epoll_fd, how, burst->fds[i], &event);
}

/* Connected: the service and the request leave together. */
static void burst_request(struct burst *burst, unsigned i)
{
    char request[1 + MESSAGE] = {WIRE_ECHO};

    if (send(burst->fds[i], request, sizeof(request), MSG_NOSIGNAL) != sizeof(request))
        fail("request");
    burst_watch(burst, i, EPOLL_CTL_MOD, EPOLLIN);
}

static void burst_receive(struct burst *burst, unsigned i)
{
    char buffer[MESSAGE];
    ssize_t n = recv(burst->fds[i], buffer, sizeof(buffer), 0);

    if (n <= 0)
        fail("answer");
    burst->n_received[i] += (size_t)n;
    if (burst->n_received[i] == MESSAGE) {
        samples_add(&burst->samples, now() - burst->begin);
        close(burst->fds[i]);
    }
}

/* "end WORST P50 P99": microseconds from the first connect() to the last byte of each. */
void load_burst(void)
{
    static struct burst burst;
    struct epoll_event events[BATCH];
    unsigned n = GT_MIN(load.n, BURST);

    burst.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    burst.begin = now();
    for (unsigned i = 0; i < n; i++) {
        burst.fds[i] = path_dial_start(&load.path);
        burst_watch(&burst, i, EPOLL_CTL_ADD, EPOLLOUT);
    }
    while (burst.samples.n < n) {
        int n_events = epoll_wait(burst.epoll_fd, events, BATCH, -1);

        for (int i = 0; i < n_events; i++)
            (events[i].events & EPOLLOUT ? burst_request : burst_receive)(&burst,
                                                                          events[i].data.u32);
    }
    samples_sort(&burst.samples);
    samples_say(&burst.samples, samples_at(&burst.samples, 100));
}

/* --- with an answer --- */

/* One connection for each answer, as of a web server: connect() to the last byte of the answer. */
void load_answer(void)
{
    static struct samples samples;
    double end = now() + load.seconds, begin;
    ssize_t n;

    while ((begin = now()) < end) {
        int fd = path_dial(&load.path, WIRE_ANSWER);
        size_t n_received = 0;

        while ((n = recv(fd, NULL, WIRE_ANSWER_SIZE, MSG_TRUNC)) > 0)
            n_received += (size_t)n;
        if (n_received != WIRE_ANSWER_SIZE)
            fail("answer");
        samples_add(&samples, now() - begin);
        close(fd);
        pause_between();
    }
    samples_say(&samples, (double)samples.n);
}

/* --- hold --- */

void load_hold(void)
{
    double begin = now();

    for (unsigned i = 0; i < load.n; i++)
        exchange(path_dial(&load.path, WIRE_ECHO));
    printf("held %.3f\n", now() - begin);
    path_wait(&load.path, STDIN_FILENO);
}

/* --- held, and used again --- */

/* "held SECONDS"; "again SECONDS" after each line of the standard input, until all have answered.
 */
void load_again(void)
{
    static int fds[BURST];
    unsigned n = GT_MIN(load.n, BURST);
    char line[16], message[MESSAGE] = "";
    double begin = now();

    for (unsigned i = 0; i < n; i++)
        exchange(fds[i] = path_dial(&load.path, WIRE_ECHO));
    printf("held %.3f\n", now() - begin);
    while (fgets(line, sizeof(line), stdin)) {
        begin = now();
        for (unsigned i = 0; i < n; i++)
            if (send(fds[i], message, MESSAGE, MSG_NOSIGNAL) != MESSAGE)
                fail("send again");
        for (unsigned i = 0; i < n; i++)
            if (recv(fds[i], message, MESSAGE, MSG_WAITALL) != MESSAGE)
                fail("answer again");
        printf("again %.6f\n", now() - begin);
    }
}
