/* SPDX-License-Identifier: ISC */
/*
 * The loop of a channel's test, and a fake relay for its data connections. It checks each JOIN,
 * joins the two sides of an attempt, and forwards bytes.
 */
#pragma once

#include "gotthard/tunnel/channel.h"
#include "support/fake-clock.h"
#include "support/short-io.h"

/* --- loop and keys ---------------------------------------------------------------------------- */

extern struct ev_loop *loop;
extern struct gt_tls_context *client_context, *server_context;
extern uint8_t session_key[GT_KEY_SIZE];
extern uint8_t other_key[GT_KEY_SIZE];

#define run_until(condition) \
    while (!(condition))     \
    ev_run(loop, EVRUN_ONCE)

int setup(void **state);

int teardown(void **state);

/* A TCP connection over loopback: both ends non-blocking. */
void tcp_pair(int ret[2]);

/* --- the relay -------------------------------------------------------------------------------- */

struct leg {
    struct relay *relay;
    struct leg *other;
    int fd;
    ev_io reader, writer;
    uint8_t join[GT_JOIN_SIZE];
    size_t n_join;
    struct gt_join decoded;
    uint8_t buf[32768]; /* read from here, not yet written to the other */
    size_t at, end;
    bool is_eof;
};

struct relay {
    int listener;
    struct gt_addr addr;
    ev_io acceptor;
    struct leg *legs[1024];
    size_t n_legs;
    bool is_garbling, is_refusing;
};

void relay_init(struct relay *relay);

void relay_cut(struct relay *relay);

/* Cuts the data connections of stream 0, or those of all other streams. */
void relay_cut_shared(struct relay *relay);

void relay_cut_own(struct relay *relay);

void relay_deinit(struct relay *relay);
