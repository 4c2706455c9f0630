/* SPDX-License-Identifier: ISC */
/*
 * A first flight sent for the second time, in one write: it is shorter than any socket's buffer.
 * The result stays in the list for `status` until the proxy ends.
 */
#include "replay.h"

#include <string.h>

const char *replay_state_name(enum replay_state state)
{
    switch (state) {
    case REPLAY_DIALING: return "dialing";
    case REPLAY_OPEN: return "open";
    case REPLAY_ENDED: return "ended";
    case REPLAY_RESET: return "reset";
    }
    return NULL;
}

static void replay_end(struct replay *replay, enum replay_state state)
{
    replay->state = state;
    ev_io_stop(replay->proxy->loop, &replay->watcher);
    gt_close(&replay->fd);
}

static void replay_on_readable(struct ev_loop *loop, ev_io *watcher, int events)
{
    struct replay *replay = watcher->data;
    uint8_t data[4096];
    ssize_t r = read(replay->fd, data, sizeof(data));

    if (r > 0)
        replay->n_got += (size_t)r;
    else if (r == 0)
        replay_end(replay, REPLAY_ENDED);
    else if (errno != EAGAIN)
        replay_end(replay, REPLAY_RESET);
}

static void replay_on_connected(struct ev_loop *loop, ev_io *watcher, int events)
{
    struct replay *replay = watcher->data;

    ev_io_stop(loop, watcher);
    if (send(replay->fd, replay->flight, replay->n, MSG_NOSIGNAL) < 0) {
        replay_end(replay, REPLAY_RESET);
        return;
    }
    replay->state = REPLAY_OPEN;
    ev_io_init(watcher, replay_on_readable, replay->fd, EV_READ);
    ev_io_start(loop, watcher);
}

int replay_new(struct connection *connection)
{
    struct proxy *proxy = connection->proxy;
    struct replay *replay = calloc(1, sizeof(*replay));

    if (!replay)
        return -ENOMEM;
    replay->proxy = proxy;
    replay->n = connection->n_flight;
    memcpy(replay->flight, connection->flight, replay->n);
    replay->fd = connection_dial(connection);
    if (replay->fd < 0) {
        int r = replay->fd;

        free(replay);
        return r;
    }
    ev_io_init(&replay->watcher, replay_on_connected, replay->fd, EV_WRITE);
    replay->watcher.data = replay;
    ev_io_start(proxy->loop, &replay->watcher);
    gt_list_append(&proxy->replays, &replay->element);
    return 0;
}

void replay_free(struct replay *replay)
{
    replay_end(replay, REPLAY_ENDED);
    gt_list_unlink(&replay->element);
    free(replay);
}
