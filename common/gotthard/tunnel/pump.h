/* SPDX-License-Identifier: ISC */
/*
 * The pump alone moves payload between a local endpoint, a stream and a data connection:
 *
 *    endpoint --gt_pump_read-----> stream --gt_pump_send--> data connection
 *    endpoint <--gt_pump_receive-- stream <---------------- data connection
 *
 * Upwards, one readv() fills the tx ring, frames are built where the bytes lie in that ring (16 KiB
 * at a time, one packet at a time at first), and one send() carries many records. Downwards, one
 * recv() fills the input buffer of TLS, records are decrypted in place, and one sendmsg() passes
 * them on from there. While the endpoint keeps up, user space does not copy payload.
 *
 * One call moves one batch, so that many streams share one loop fairly. No call reports an outcome:
 * the state of the stream afterwards is the outcome, and the caller acts on it.
 */
#pragma once

#include "gotthard/proto/stream.h"
#include "gotthard/tunnel/data-connection.h"
#include "gotthard/tunnel/endpoint.h"

/* Bytes of one batch. A large one costs the least per byte, and other streams wait for it. */
#define GT_PUMP_BATCH_LARGE ((size_t)15 * GT_DATA_MAX) /* full records of one output buffer */
#define GT_PUMP_BATCH_SMALL ((size_t)4 * GT_DATA_MAX)

struct gt_pump {
    struct gt_stream *stream;     /* borrows */
    struct gt_endpoint *endpoint; /* borrows */
    enum gt_rst eof; /* the meaning of an end of file: a reset that a write has already reported */
};

/* Borrows both; the stream must be initialized. */
void gt_pump_init(struct gt_pump *pump, struct gt_stream *stream, struct gt_endpoint *endpoint);

/* Stream to data connection (NULL: none), as much as it accepts. After the last output of a stream
 * that is over it does not flush: the caller closes the connection in the same loop iteration,
 * which sends both together. */
void gt_pump_send(struct gt_pump *pump, struct gt_data_connection *connection);
/* Data connection to stream to endpoint: @batch bytes (GT_PUMP_BATCH_x), and what one recv() may
 * have returned beyond them. */
void gt_pump_receive(struct gt_pump *pump, struct gt_data_connection *connection, size_t batch);
/* @n received bytes of frames, which lie in the input buffer of TLS, to stream to endpoint. */
void gt_pump_consume(struct gt_pump *pump, const uint8_t *data, size_t n);
/* Endpoint to stream to data connection (NULL: none), at most @batch bytes, if the stream has room.
 */
void gt_pump_read(struct gt_pump *pump, struct gt_data_connection *connection, size_t batch);
/* One read of at most @n_max bytes from the endpoint into the stream, which must have room. Returns
 * true if the endpoint may have more. */
bool gt_pump_read_once(struct gt_pump *pump, size_t n_max);
/* Stream to endpoint: all received bytes, and an end of file after the last one. A reset after the
 * last one is linger.h's. */
void gt_pump_write(struct gt_pump *pump);
/* The same, unless an earlier write was cut short and the endpoint is not writable yet. */
void gt_pump_write_if_ready(struct gt_pump *pump);
/* The application's side was reset or has vanished: it gets no more bytes, and the other direction
 * ends with a reset after the bytes that are in the kernel. */
void gt_pump_stop(struct gt_pump *pump);
/* Does the same if the endpoint was reset. One that moves no bytes is not watched, and its reset
 * must not wait for a peer that does not read either. */
void gt_pump_detect_reset(struct gt_pump *pump);
/* Watches the endpoint for exactly the directions in which the stream can move bytes. */
void gt_pump_watch(struct gt_pump *pump);
