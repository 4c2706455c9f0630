/* SPDX-License-Identifier: ISC */
/*
 * faultproxy: a bad network between two parties, in user space. It listens where one party dials,
 * forwards to where the other listens, and breaks what goes through as networks do: it delays,
 * slows, cuts, resets, swallows, dribbles, flips bits, forgets. Orders come on standard input, a
 * line each (orders.c), and each is answered by a line; it ends with its input, so that no proxy
 * outlives the test that made it. What it is not told to break it must pass on unchanged.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "connection.h"
#include "door.h"
#include "orders.h"
#include "replay.h"

static struct input {
    size_t n;
    char data[4096];
} input;

static void main_take_lines(struct proxy *proxy)
{
    char *begin = input.data, *end;

    while ((end = memchr(begin, '\n', input.n - (size_t)(begin - input.data)))) {
        *end = '\0';
        orders_take(proxy, begin);
        begin = end + 1;
    }
    input.n -= (size_t)(begin - input.data);
    memmove(input.data, begin, input.n);
}

static void main_on_input(struct ev_loop *loop, ev_io *watcher, int events)
{
    ssize_t r = read(watcher->fd, input.data + input.n, sizeof(input.data) - input.n);

    if (r <= 0) {
        ev_break(loop, EVBREAK_ALL);
        return;
    }
    input.n += (size_t)r;
    main_take_lines(watcher->data);
}

static void main_on_prepare(struct ev_loop *loop, ev_prepare *watcher, int revents)
{
    connection_bury(watcher->data);
}

/* Whole relays stand behind it: as many descriptors as there may be. */
static void main_raise_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static void main_init(struct proxy *proxy)
{
    *proxy = (struct proxy){.loop = ev_default_loop(EVFLAG_AUTO),
                            .weather = {weather_fair, weather_fair},
                            .is_handshaking = true};
    gt_list_init(&proxy->doors);
    gt_list_init(&proxy->connections);
    gt_list_init(&proxy->replays);
    gt_list_init(&proxy->dead);
}

static void main_deinit(struct proxy *proxy)
{
    gt_list_for_each_safe (at, next, &proxy->doors)
        door_close(gt_list_entry(at, struct door, element));
    gt_list_for_each_safe (at, next, &proxy->connections)
        connection_reset(gt_list_entry(at, struct connection, element));
    gt_list_for_each_safe (at, next, &proxy->replays)
        replay_free(gt_list_entry(at, struct replay, element));
    connection_bury(proxy);
    ev_loop_destroy(proxy->loop);
}

int main(void)
{
    struct proxy proxy;
    ev_prepare prepare;
    ev_io orders;

    main_raise_limit();
    prctl(PR_SET_TIMERSLACK, 1ul);
    main_init(&proxy);
    ev_io_init(&orders, main_on_input, STDIN_FILENO, EV_READ);
    orders.data = &proxy;
    ev_io_start(proxy.loop, &orders);
    ev_prepare_init(&prepare, main_on_prepare);
    prepare.data = &proxy;
    ev_prepare_start(proxy.loop, &prepare);
    ev_run(proxy.loop, 0);
    main_deinit(&proxy);
    return EXIT_SUCCESS;
}
