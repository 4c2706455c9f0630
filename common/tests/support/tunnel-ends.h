/* SPDX-License-Identifier: ISC */
/*
 * Both ends of a session in one loop, with a fake relay between them. Applications send a pattern
 * of their own stream, so that a lost, duplicated or foreign byte is detected. A storm cuts random
 * connections.
 */
#pragma once

#include "gotthard/tunnel/tunnel.h"
#include "support/fake-clock.h"
#include "support/fake-switchboard.h"

/* --- two ends --------------------------------------------------------------------------------- */

#define STREAMS_MAX 32
#define NUMBERS_MAX 4096

struct end {
    struct gt_tunnel *tunnel;
    struct fixture *fixture;
    unsigned n_retries, n_waiting, n_up, n_peer, n_control, n_down, n_ends, n_well;
    bool is_peer_up, is_control_up;
    uint16_t port;
    enum gt_rst last_rst;
    uint64_t total_up, total_down;
    enum gt_end_reason cause;
    enum gt_code code;
    char why[200];
    unsigned notices; /* bits 1 << enum gt_path_notice */
    char notice[400]; /* the last one */
};

struct fixture {
    struct ev_loop *loop;
    struct switchboard board;
    struct gt_tunnel_settings settings[2]; /* operator, device */
    struct end end[2];
    enum gt_rst refusal;     /* the device's answer; GT_RST_NONE: serves */
    bool is_undecided;       /* the device does not answer */
    const char *service;     /* that the operator opens; NULL: "echo" */
    int target[NUMBERS_MAX]; /* by stream: the test's end of the service */
    unsigned n_requested;
};

extern const struct gt_tunnel_events events;

void fixture_init(struct fixture *f);

void fixture_start(struct fixture *f, int i);

void fixture_start_both(struct fixture *f);

void fixture_deinit(struct fixture *f);

bool are_both_up(void *userdata);

/* What proved the data connection is not counted. */
void fixture_settle(struct fixture *f);

void fixture_up(struct fixture *f);

/* The test's own end of a new stream. */
int open_stream(struct fixture *f);

bool is_operator_down(void *userdata);

bool are_both_down(void *userdata);

void expect_end(const struct end *end, enum gt_end_reason cause, enum gt_code code,
                const char *why);

/* --- bytes ------------------------------------------------------------------------------------ */

struct flow {
    int from, to; /* to: 0 until it is known */
    uint64_t n, n_written, n_read;
    uint32_t seed;
};

uint8_t pattern(const struct flow *flow, uint64_t at);

struct flows {
    struct fixture *f;
    int fds[STREAMS_MAX]; /* the operator's side */
    uint32_t numbers[STREAMS_MAX];
    size_t n_streams;
    uint64_t n; /* bytes, each way */
    struct flow up[STREAMS_MAX], down[STREAMS_MAX];
};

void tick(struct ev_loop *loop, ev_timer *w, int revents);

void flows_open(struct flows *flows);

void flows_continue(struct flows *flows);

void flows_run(struct flows *flows);

/* Opens @n_streams streams and transfers @n bytes each way over each of them. */
void flows_begin(struct flows *flows, struct fixture *f, size_t n_streams, uint64_t n);

bool are_all_ended(void *userdata);

void flows_finish(struct flows *flows);

/* --- cuts ------------------------------------------------------------------------------------- */

struct storm {
    struct flows *flows;
    unsigned n_cuts, n_cuts_max;
    uint32_t random;
};

void storm_on_timer(struct ev_loop *loop, ev_timer *w, int revents);
