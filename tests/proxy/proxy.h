/* SPDX-License-Identifier: ISC */
/*
 * The state of the process that the commands change. There is one instance, owned by main; its
 * parts point to it.
 */
#pragma once

#include <ev.h>

#include "gotthard/base/list.h"
#include "impairments.h"

enum proxy_direction { PROXY_UP, PROXY_DOWN }; /* from the client, to the client */
#define PROXY_DIRECTIONS 2

/* For new connections. */
enum proxy_policy { PROXY_THROUGH, PROXY_HOLD, PROXY_REFUSE };

struct proxy {
    struct ev_loop *loop;
    struct gt_list listeners, connections, replays;
    struct gt_list ended; /* connections to be freed before the loop waits again */
    struct impairments impairments[PROXY_DIRECTIONS]; /* of future connections */
    enum proxy_policy policy;
    bool is_handshaking; /* a delay also delays the connect */
    uint64_t n_accepted;
    uint64_t n_bytes[PROXY_DIRECTIONS]; /* of ended connections */
    unsigned last_id;
};
