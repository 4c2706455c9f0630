/* SPDX-License-Identifier: ISC */
/*
 * The fake relay with its data side: it issues tickets, joins data connections and forwards their
 * bytes as the real relay does, and fails where the real one may fail.
 */
#pragma once

#include "support/fake-relay.h"

#define DATA_MAX   128
#define BUFFER_MAX (256 * 1024)

struct data {
    struct switchboard *board;
    int fd; /* -1: free */
    ev_io io;
    bool is_at_main_port;
    struct data *other; /* from the second JOIN on */
    struct gt_join join;
    uint8_t *buffer; /* read here, not yet written there */
    size_t n;
};

struct switchboard {
    struct ev_loop *loop;
    struct fake_relay relay;
    int listener;
    uint16_t port;
    ev_io acceptable;
    struct data data[DATA_MAX];
    struct gt_control_frame tickets[64]; /* until the device registers */
    size_t n_tickets;
    unsigned n_stream_ends, n_joins, n_main_joins, n_opens;
    bool ignores_joins;      /* the session's port accepts connections, and answers nothing */
    bool ignores_main_joins; /* the same of the main port, for data connections */
    uint32_t load;           /* streams in the shared connection: the last LOAD */
    uint32_t generation[2];  /* of the last RENDEZVOUS, by role */
    bool has_no_tickets;     /* answers OPEN with STREAM_END */
    enum gt_code end_code;   /* the code of it; 0: LIMIT */
    bool is_frozen;          /* forwards no more data */
    bool drops_stream_ends;  /* forwards no STREAM_END */
    unsigned n_reset;        /* streams that the device reported as reset */
    enum gt_code bye_code;   /* the answer to RENDEZVOUS: the session is over */
};

void data_close(struct data *data);

void data_watch(struct data *data);

void board_init(struct switchboard *board, struct ev_loop *loop);

void board_deinit(struct switchboard *board);

void board_cut_data(struct switchboard *board);

void board_cut_control(struct switchboard *board);
