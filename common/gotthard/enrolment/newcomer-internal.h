/* SPDX-License-Identifier: ISC */
/*
 * The parts of a newcomer: its states, its tunnel (newcomer.c), its stream (newcomer-stream.c) and
 * the reasons of its end (newcomer-end.c). Only these files include this header.
 */
#pragma once

#include "gotthard/enrolment/newcomer.h"
#include "gotthard/tunnel/tunnel.h"

enum newcomer_state {
    NEWCOMER_MEETING,   /* no stream yet; bounded by the deadline */
    NEWCOMER_ASKING,    /* the request is sent, or on its way; likewise */
    NEWCOMER_HUNG_UP,   /* the stream ended without an answer; HUNG_UP_S */
    NEWCOMER_REPORTING, /* the result is on its way; REPORT_S */
    NEWCOMER_ENDING,    /* the tunnel closes; 2 s, by the tunnel */
    NEWCOMER_ENDED,
};

struct gt_newcomer {
    struct ev_loop *loop;
    enum newcomer_state state;
    struct gt_newcomer_events events;
    void *userdata;
    enum gt_token_kind kind;
    struct gt_enrolment_pending pending;
    struct gt_host_port relay;
    struct gt_tunnel *tunnel;
    int fd; /* our end of the stream; -1: none */
    ev_io io;
    ev_timer deadline;
    bool was_registered; /* at the relay */
    char retry_why[GT_ENROLMENT_TEXT_MAX + 1];
    enum gt_newcomer_end end; /* from REPORTING on */
    char why[GT_ENROLMENT_TEXT_MAX + 1];

    uint8_t out[GT_ENROLMENT_HEAD + GT_ENROLMENT_REQUEST_MAX]; /* request, then result */
    size_t n_out, n_sent;
    uint8_t head[GT_ENROLMENT_HEAD];
    size_t n_head;
    enum gt_enrolment_frame type; /* of the frame that is being read */
    uint8_t *body;                /* owned */
    size_t n_body, n_read;
};

/* Every change of the state. */
void newcomer_enter(struct gt_newcomer *newcomer, enum newcomer_state state);
/* Ends the session; on_end follows when the tunnel is down. newcomer_finish() states the end
 * before.
 */
void newcomer_close(struct gt_newcomer *newcomer);
void newcomer_finish(struct gt_newcomer *newcomer, enum gt_newcomer_end end, const char *why);
void newcomer_set_end(struct gt_newcomer *newcomer, enum gt_newcomer_end end, const char *why);

void newcomer_init_stream(struct gt_newcomer *newcomer);
/* The operator's command has opened the stream, whose end is @fd (takes): sends the request. */
void newcomer_start_stream(struct gt_newcomer *newcomer, int fd);
/* Queues a frame, whose body of @n bytes is in ->out behind its head. */
void newcomer_queue(struct gt_newcomer *newcomer, enum gt_enrolment_frame type, size_t n);

/* Returns the end that follows from that of the tunnel, before an answer. */
enum gt_newcomer_end newcomer_end_of(enum gt_end_reason cause, enum gt_code code);
