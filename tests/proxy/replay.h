/* SPDX-License-Identifier: ISC */
/*
 * A replay attack: the first bytes of a client are sent again over a new connection of the
 * attacker. The answer is counted and discarded.
 */
#pragma once

#include "connection.h"

enum replay_state { REPLAY_DIALING, REPLAY_OPEN, REPLAY_ENDED, REPLAY_RESET };

struct replay {
    struct gt_list element; /* of the proxy's replays */
    struct proxy *proxy;
    enum replay_state state;
    int fd;
    size_t n, n_got;
    uint8_t flight[CONNECTION_FLIGHT];
    ev_io watcher;
};

/* Sends the first bytes of @connection again. -errno. */
int replay_new(struct connection *connection) GT_MUST_CHECK;
const char *replay_state_name(enum replay_state state);
void replay_free(struct replay *replay);
