/* SPDX-License-Identifier: ISC */
/*
 * faultproxy: a bad network between two parties, in user space. It listens where one party dials,
 * forwards to where the other party listens, and impairs the traffic as networks do: it delays,
 * throttles, cuts, resets, drops, fragments, flips bits, and forgets idle connections. Commands
 * arrive on standard input, one per line (commands.c), and each is answered by one line. It exits
 * at the end of its input, so that no proxy outlives the test that started it. Everything that no
 * command impairs must pass unchanged.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "commands.h"
#include "connection.h"
#include "listener.h"
#include "replay.h"

static struct input {
    size_t n;
    char data[4096];
} input;

static void main_execute_lines(struct proxy *proxy)
{
    char *begin = input.data, *end;

    while ((end = memchr(begin, '\n', input.n - (size_t)(begin - input.data)))) {
        *end = '\0';
        commands_execute(proxy, begin);
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
    main_execute_lines(watcher->data);
}

static void main_on_prepare(struct ev_loop *loop, ev_prepare *watcher, int revents)
{
    connection_reap(watcher->data);
}

/* Whole relays are behind it: raises the descriptor limit to its maximum. */
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
                            .impairments = {impairments_none, impairments_none},
                            .is_handshaking = true};
    gt_list_init(&proxy->listeners);
    gt_list_init(&proxy->connections);
    gt_list_init(&proxy->replays);
    gt_list_init(&proxy->ended);
}

static void main_deinit(struct proxy *proxy)
{
    gt_list_for_each_safe (at, next, &proxy->listeners)
        listener_close(gt_list_entry(at, struct listener, element));
    gt_list_for_each_safe (at, next, &proxy->connections)
        connection_reset(gt_list_entry(at, struct connection, element));
    gt_list_for_each_safe (at, next, &proxy->replays)
        replay_free(gt_list_entry(at, struct replay, element));
    connection_reap(proxy);
    ev_loop_destroy(proxy->loop);
}

int main(void)
{
    struct proxy proxy;

    ev_prepare prepare;
    ev_io commands;

    main_raise_limit();
    prctl(PR_SET_TIMERSLACK, 1ul);
    main_init(&proxy);
    ev_io_init(&commands, main_on_input, STDIN_FILENO, EV_READ);
    commands.data = &proxy;
    ev_io_start(proxy.loop, &commands);
    ev_prepare_init(&prepare, main_on_prepare);
    prepare.data = &proxy;
    ev_prepare_start(proxy.loop, &prepare);
    ev_run(proxy.loop, 0);
    main_deinit(&proxy);
    return EXIT_SUCCESS;
}
