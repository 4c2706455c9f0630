/* SPDX-License-Identifier: ISC */
/*
 * The parts of a registrar: its states and its tunnel (registrar.c), and its stream
 * (registrar-stream.c). Only these files include this header.
 */
#pragma once

#include "gotthard/enrolment/registrar.h"
#include "gotthard/tunnel/tunnel.h"

enum registrar_state {
    REGISTRAR_WAITING,  /* at the relay; bounded by the token's life */
    REGISTRAR_READING,  /* the request; bounded */
    REGISTRAR_DECIDING, /* the caller's turn; the token's life */
    REGISTRAR_SENDING,  /* answer or rejection; SEND_S */
    REGISTRAR_RESULT,   /* RESULT_S */
    REGISTRAR_CLOSING,  /* the tunnel closes; 2 s, by the tunnel */
    REGISTRAR_ENDED,
};

struct gt_registrar {
    struct ev_loop *loop;
    enum registrar_state state;
    struct gt_registrar_events events;
    void *userdata;
    struct gt_token token; /* secret */
    struct gt_host_port relay;
    struct gt_tunnel *tunnel;
    struct gt_enrolment_request request; /* borrows ->in */
    int fd;                              /* our end of the stream; -1: none */
    ev_io io;
    ev_timer deadline;
    double ends_at;            /* the token's life, in seconds of gt_clock() */
    enum gt_registrar_end end; /* from CLOSING on */
    char why[GT_ENROLMENT_TEXT_MAX + 1];
    bool is_answer; /* the frame that is sent is an answer */

    uint8_t head[GT_ENROLMENT_HEAD];
    size_t n_head;
    size_t n_body, n_read;
    uint8_t in[GT_ENROLMENT_REQUEST_MAX]; /* the request; it stays */
    uint8_t result[1 + GT_ENROLMENT_TEXT_MAX];
    uint8_t *out; /* owned; a frame */
    size_t n_out, n_sent;
};

/* Every change of the state. */
void registrar_enter(struct gt_registrar *registrar, enum registrar_state state);
/* Ends the session; on_end follows when the tunnel is down. @why: NULL keeps the present one. */
void registrar_close(struct gt_registrar *registrar, enum gt_registrar_end end, const char *why);

void registrar_init_stream(struct gt_registrar *registrar);
/* The stream is open, and its end is @fd (takes): reads the request. */
void registrar_start_stream(struct gt_registrar *registrar, int fd);
void registrar_stop_stream(struct gt_registrar *registrar);
/* Closes the stream, if there is one. */
void registrar_deinit_stream(struct gt_registrar *registrar);
