/* SPDX-License-Identifier: ISC */
/*
 * Both channels of a stream, with an application at each end. Applications send a pattern of their
 * own stream, so that a lost, duplicated or foreign byte is detected.
 */
#pragma once

#include "support/channel-relay.h"

#define MIB ((size_t)1 << 20)

/* --- an application --------------------------------------------------------------------------- */

struct app {
    int fd;
    ev_io reader, writer;
    uint32_t out_seed, in_seed;
    size_t n_out, to_send, n_in;
    bool is_finishing; /* shutdown after the last byte */
    bool is_eof, is_reset;
};

const uint8_t *pattern(uint32_t seed, size_t offset);

void app_send(struct app *app, size_t n, bool is_finishing);

void app_close(struct app *app);

/* --- both ends of one stream ------------------------------------------------------------------ */

struct ends;

struct side {
    struct ends *ends;
    struct gt_shared_connection *shared;
    struct gt_sweep sweep;
    bool is_device;
    unsigned n_shared_up;
};

struct ends {
    struct relay *relay;
    uint32_t number;
    struct gt_channel *o, *d; /* d: NULL until the operator begins the stream */
    struct side side[2];      /* operator, device */
    struct gt_path path;      /* of both ends */
    double relay_at;          /* the relay answers each question at once */
    struct gt_channel_settings o_settings, d_settings;
    struct app client, server;
    int client_fd, server_fd; /* the channels' ends of the two connections */
    enum gt_rst refusal;
    bool is_target_late;
    unsigned n_up_o, n_up_d, n_lost;
    int o_code, d_code; /* -1: not over */
    uint64_t o_counts[2], d_counts[2];
    char service[GT_SERVICE_MAX + 1];

    bool has_no_tickets;  /* the stream gets no data connection of its own */
    unsigned n_requested; /* tickets for one */
    ev_timer due;         /* tickets that were requested */
    uint32_t due_own, due_shared;
};

/* Both ends get a ticket for the next shared connection. */
void ends_connect(struct ends *ends);

void ends_init(struct ends *ends, struct relay *relay, uint32_t number);

void ends_open(struct ends *ends);

bool ends_are_over(const struct ends *ends);

/* The stream runs over a data connection of its own at both ends. */
bool ends_are_on_their_own(const struct ends *ends);

void ends_deinit(struct ends *ends);

void assert_ended_well(struct ends *ends);

void assert_codes(struct ends *ends, enum gt_rst o_code, enum gt_rst d_code);

void assert_broken(struct ends *ends, enum gt_rst o_code, enum gt_rst d_code);
