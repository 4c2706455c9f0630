/* SPDX-License-Identifier: ISC */
/*
 * The control socket of a `connect`, on which `sessions` finds it. It answers the query of the
 * status and nothing else. Without a private folder there is none: the tunnel does not need it.
 */
#pragma once

#include "forwards.h"
#include "holder-server.h"
#include "session.h"

struct connect_status {
    struct holder_server server;
    bool is_started;
    const struct session *session;
    const struct forwards *forwards;
    const char *device, *operator_;
    uint64_t started_ms;
};

/* Keeps all pointers until connect_status_stop(). */
void connect_status_start(struct connect_status *status, struct ev_loop *loop,
                          const struct session *session, const struct forwards *forwards,
                          const char *device, const char *operator_);
/* Takes a zeroed struct, and a stopped one. */
void connect_status_stop(struct connect_status *status);
