/* SPDX-License-Identifier: ISC */
/*
 * Somebody who listened: what a client said first is said again, from a connection of the
 * listener's own. What is answered is counted, and thrown away.
 */
#pragma once

#include "connection.h"

enum replay_state { REPLAY_DIALLING, REPLAY_OPEN, REPLAY_ENDED, REPLAY_RESET };

struct replay {
    struct gt_list element; /* of the proxy's replays */
    struct proxy *proxy;
    enum replay_state state;
    int fd;
    size_t n, n_got;
    uint8_t flight[CONNECTION_FLIGHT];
    ev_io watcher;
};

/* Says again what @connection has said first. -errno. */
int replay_new(struct connection *connection) GT_MUST_CHECK;
const char *replay_state_name(enum replay_state state);
void replay_free(struct replay *replay);
