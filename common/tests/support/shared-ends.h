/* SPDX-License-Identifier: ISC */
/*
 * Both ends of a shared connection with the streams in it, over a fake relay. An application at
 * each end of a stream sends a pattern of its own, so that a lost, duplicated or foreign byte is
 * detected. A third kind of end is a data connection without a shared connection, which sends any
 * record.
 */
#pragma once

#include "gotthard/proto/segment.h"
#include "gotthard/tunnel/shared-connection.h"
#include "support/channel-relay.h"

#define SHARED_STREAMS 64

struct shared_ends;
struct shared_end;

struct shared_stream { /* one end of a stream */
    struct shared_end *end;
    struct gt_shared_member member;
    struct gt_stream stream;
    bool is_known, is_forgotten;
    size_t n_to_send, n_written, n_read; /* bytes */
};

struct shared_end {
    struct shared_ends *ends;
    enum gt_role role;
    struct gt_shared_connection *shared;
    struct gt_path path;
    struct shared_stream streams[SHARED_STREAMS + 1]; /* by number */
    uint32_t last_number;
    uint32_t requested; /* operator: attempt whose ticket is due; 0: none */
    unsigned n_up, n_down, n_requests, n_lost, n_begins;
    size_t answer_size; /* device: bytes that it sends in each stream */
};

struct shared_ends {
    struct relay relay;
    struct shared_end o, d;
    bool has_no_tickets;
};

struct gt_shared_connection_settings shared_settings(struct shared_end *end);
void shared_ends_init(struct shared_ends *ends);
void shared_ends_deinit(struct shared_ends *ends);
/* One iteration of the loop, and the tickets that were requested. */
void shared_ends_run(struct shared_ends *ends);
#define shared_run_until(ends, condition) \
    while (!(condition))                  \
    shared_ends_run(ends)

struct gt_ticket shared_ticket(uint32_t attempt);
/* Opens a stream whose operator sends @n bytes, and then an end of file. */
struct shared_stream *shared_open(struct shared_ends *ends, uint32_t number, size_t n);
/* Moves the bytes of the applications, and takes a turn if there is output. */
void shared_stream_pump(struct shared_stream *s);
/* Returns true if stream @number is forgotten; the device may remember one that is over, whose
 * operator has forgotten it. */
bool shared_is_done(const struct shared_ends *ends, uint32_t number);
void shared_assert_exact(const struct shared_ends *ends, uint32_t number);

/* --- an end that is a data connection --------------------------------------------------------- */

struct seen { /* a segment that it received */
    uint32_t number;
    bool is_begin;
    size_t n;
    unsigned record;
    uint8_t first[32]; /* its first bytes */
};

struct raw_end {
    struct gt_data_connection *connection;
    struct gt_path path;
    bool is_ready, is_gone;
    unsigned n_records;
    struct seen *seen; /* of ->n_seen segments */
    size_t n_seen;
};

/* Joins @attempt as @role. */
void raw_connect(struct raw_end *raw, struct shared_ends *ends, enum gt_role role,
                 uint32_t attempt);
void raw_write(struct raw_end *raw, const void *record, size_t n);
/* A segment with the frames of @w. */
void raw_write_segment(struct raw_end *raw, uint32_t number, bool is_begin,
                       const struct gt_frame *frames, size_t n_frames);
void raw_deinit(struct raw_end *raw);
