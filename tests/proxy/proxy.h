/* SPDX-License-Identifier: ISC */
/*
 * The whole: everything that the orders of this process are about. There is one of it, owned by
 * main; its parts point to it.
 */
#pragma once

#include <ev.h>

#include "gotthard/list.h"
#include "weather.h"

enum proxy_way { PROXY_UP, PROXY_DOWN }; /* from who dialled, to him */
#define PROXY_WAYS 2

/* What becomes of who comes now. */
enum proxy_welcome { PROXY_THROUGH, PROXY_HOLD, PROXY_REFUSE };

struct proxy {
    struct ev_loop *loop;
    struct gt_list doors, connections, replays;
    struct gt_list dead;                /* connections to be freed before the loop waits again */
    struct weather weather[PROXY_WAYS]; /* of connections to come */
    enum proxy_welcome welcome;
    bool is_handshaking; /* a delay delays the connect as well */
    uint64_t n_accepted;
    uint64_t n_bytes[PROXY_WAYS]; /* of the connections that are over */
    unsigned last_id;
};
