/* SPDX-License-Identifier: ISC */
/* Bulk data, and an echo beside bulk data that has just begun. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "load.h"
#include "wire-format.h"

#define BATCH 64

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

/* Buffered data would still be transferred during the next measurement. */
static void flow_end_with_reset(int fd)
{
    struct linger linger = {1, 0};

    setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
}

static void flow_begin(const struct flow *flow, int fd)
{
    flow_end_with_reset(fd);
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

void load_up(void)
{
    load_flow(true);
}

void load_down(void)
{
    load_flow(false);
}

/* --- an echo beside bulk data that has just begun --- */

static void *beside_read(void *userdata)
{
    const int *fd = userdata;

    while (recv(*fd, NULL, 1 << 20, MSG_TRUNC) > 0)
        ;
    return NULL;
}

/* One bulk connection after another. Each is as old as the gap when it ends; all echoes count. */
void load_beside(void)
{
    static struct samples samples;
    int echo_fd = path_dial(&load.path, WIRE_ECHO);
    double end = now() + load.seconds;

    while (now() < end) {
        int fd = path_dial(&load.path, WIRE_SOURCE);
        double begin = now(), last = begin + load.gap;
        pthread_t thread;

        flow_end_with_reset(fd);
        if (pthread_create(&thread, NULL, beside_read, &fd))
            fail("thread");
        for (double after; begin < last; begin = after) {
            exchange(echo_fd);
            after = now();
            samples_add(&samples, after - begin);
        }
        shutdown(fd, SHUT_RDWR);
        pthread_join(thread, NULL);
        close(fd);
        exchange(echo_fd); /* its last bytes are out of the way */
    }
    samples_say(&samples, (double)samples.n);
}
