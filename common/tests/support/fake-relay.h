/* SPDX-License-Identifier: ISC */
/*
 * A relay for tests, in the test's own loop: it accepts control connections, does the handshake,
 * and passes every frame to the test, which answers correctly or not. Data connections are in
 * fake-switchboard.h.
 */
#pragma once

#include "gotthard/net/host-port.h"
#include "gotthard/net/sock.h"
#include "gotthard/proto/control.h"
#include "gotthard/tls/tls.h"
#include <ev.h>
#include <stdio.h>

#define CLIENTS_MAX 128

extern const uint8_t fake_key[GT_KEY_SIZE];
extern uint8_t fake_rid[GT_RID_SIZE]; /* a test may set that of its session */

struct fake_relay;

struct fake_client {
    struct fake_relay *relay;
    int fd; /* -1: free */
    bool is_handshake_done;
    enum gt_role role;
    struct gt_tls *tls;
    ev_io io;
    uint8_t in[8 * GT_CONTROL_FRAME_MAX];
    size_t n_in;
    unsigned n_frames[256]; /* by type */
};

struct fake_relay {
    struct ev_loop *loop;
    struct gt_tls_context *context;
    unsigned n_close_notifies; /* received */
    unsigned n_resets;         /* connections reset after close_notify */
    int listener;
    uint16_t port;
    struct gt_host_port address; /* of ->listener */
    ev_io acceptable;
    struct fake_client clients[CLIENTS_MAX];
    bool is_silent;      /* accepts and sends nothing, not even TLS */
    bool closes_at_once; /* every connection that it accepts */
    bool has_wrong_key;
    unsigned n_accepted;
    uint16_t version;
    uint32_t heartbeat_ms;
    void (*on_frame)(struct fake_client *client, const struct gt_control_frame *frame);
    void (*on_join)(struct fake_relay *relay, int fd); /* NULL: only TLS; takes @fd */
    void *userdata;
};

void fake_client_close(struct fake_client *client);

/* Any bytes, in one record. */
void fake_client_send_bytes(struct fake_client *client, const void *data, size_t n);

void fake_client_send(struct fake_client *client, const struct gt_control_frame *frame);

struct gt_control_frame fake_frame(enum gt_control_type type);

void fake_client_welcome(struct fake_client *client);

void fake_client_session(struct fake_client *client, uint16_t port, bool is_peer_up);

void fake_client_peer(struct fake_client *client, bool is_up, enum gt_code reason);

void fake_client_code(struct fake_client *client, enum gt_control_type type, enum gt_code code);

int fake_listen(uint16_t *ret_port);

void fake_relay_init(struct fake_relay *relay, struct ev_loop *loop);

void fake_relay_deinit(struct fake_relay *relay);

/* The registered client of a role, or NULL. */
struct fake_client *fake_relay_client(struct fake_relay *relay, enum gt_role role);

/* --- running ---------------------------------------------------------------------------------- */

/* Runs the loop until @is_done(userdata), for at most @seconds; returns is_done(). */
bool fake_run(struct ev_loop *loop, bool (*is_done)(void *userdata), void *userdata,
              double seconds);
