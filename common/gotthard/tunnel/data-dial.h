/* SPDX-License-Identifier: ISC */
/*
 * The way to an established data connection: a leg to the relay's port of the session, soon also
 * one to its main port if the first gives no answer (data-leg.h, path.h), and over the first leg
 * that is joined the TLS handshake with the PSK of this attempt (docs/protocol.md, sections 3 and
 * 4). Ends with a socket and a TLS session for the data connection, or with a reason.
 */
#pragma once

#include <ev.h>

#include "gotthard/net/sock.h"
#include "gotthard/proto/join.h"
#include "gotthard/tls/tls.h"
#include "gotthard/tunnel/path.h"

struct gt_data_dial;

struct gt_data_dial_settings {
    struct ev_loop *loop;
    enum gt_role role;
    const uint8_t *session_key; /* K_sess; borrows during gt_data_dial_new */
    struct gt_tls_context *tls; /* keeps: client for an operator, server for a device */
    struct gt_path *path;       /* keeps; reports to it */
    double timeout_s;           /* of the socket: see gt_sock_set_timeout */
};

struct gt_data_dial_events {
    /* The peer proved that it has the session key. The callee takes @fd and @tls; the last
     * handshake record may still wait for gt_tls_flush. */
    void (*on_ready)(void *userdata, int fd, struct gt_tls *tls);
    /* @why is valid during the call. */
    void (*on_failed)(void *userdata, const char *why);
};

/* @relay: with the session's port. Exactly one of the events follows, from the loop, and it is the
 * last callback: free the dial inside it or later. -ENOMEM. */
int gt_data_dial_new(const struct gt_data_dial_settings *settings, const struct gt_addr *relay,
                     const struct gt_ticket *ticket, const struct gt_data_dial_events *events,
                     void *userdata, struct gt_data_dial **ret) GT_MUST_CHECK;
struct gt_data_dial *gt_data_dial_free(struct gt_data_dial *dial);
/* Borrows; -1: there is no socket now. */
int gt_data_dial_fd(const struct gt_data_dial *dial);
