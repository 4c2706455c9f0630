/* SPDX-License-Identifier: ISC */
/*
 * The streams of one tunnel, each with its channel: a table by stream number, and the shared
 * connection that carries them at first. The operator opens a stream; on the device its beginning
 * on the shared connection creates it; at its end it is removed. The table requests tickets from
 * the relay and reports losses and ends to it, over the tunnel's control connection. It does not
 * know the state of the tunnel.
 */
#pragma once

#include "gotthard/relay/control-connection.h"
#include "gotthard/tunnel/channel.h"

struct gt_streams;

struct gt_streams_events {
    /* Device: answer with gt_channel_serve or gt_channel_reject. */
    void (*on_service)(void *userdata, struct gt_channel *channel, const char *service);
    /* Operator: the device has connected the target of @stream. NULL: not wanted. */
    void (*on_connected)(void *userdata, uint32_t stream);
    /* A stream is over; it is removed after this returns. The relay is informed if it knows the
     * stream. */
    void (*on_end)(void *userdata, const char *service, uint32_t stream, enum gt_rst code,
                   uint64_t n_up, uint64_t n_down);
    /* Device: the operator's end is of version 0.1: it requests a data connection for a stream, and
     * had no shared connection before. NULL: not wanted. */
    void (*on_older_operator)(void *userdata);
    /* For the object that embeds @streams: the last stream is removed. */
    void (*on_empty)(struct gt_streams *streams);
};

struct gt_streams {
    struct gt_channel_settings channels; /* of each channel */
    struct gt_window_memory memory;      /* shared by all */
    struct gt_path path;                 /* shared by all; its owner sets it up */
    struct gt_sweep sweep;               /* shared by all */
    struct gt_shared_connection *shared; /* owned */
    struct gt_streams_events events;
    void *userdata;
    unsigned max;
    uint32_t last; /* greatest stream number assigned or received */
    struct streams_entry *entries;
    uint8_t session_key[GT_KEY_SIZE];
    struct gt_control_connection *control; /* borrows: the tunnel's */
    double asked_at;                       /* the relay was last asked, by gt_clock() */
    bool is_paused;                        /* requests no ticket */
    bool is_shared_closed;                 /* operator: it is not wanted for now */
    uint32_t load;                         /* operator: as last reported to the relay */
    ev_timer load_due;                     /* operator: a change of it is to be reported */
};

/* Keeps the loop, copies the session key, creates the TLS context and the shared connection, which
 * gt_streams_resume opens. ->path must be set up before. @channels: without those. @userdata is for
 * on_service and on_end. Call gt_streams_deinit also after a failure. */
int gt_streams_init(struct gt_streams *streams, const struct gt_channel_settings *channels,
                    unsigned max, const struct gt_streams_events *events,
                    void *userdata) GT_MUST_CHECK;
/* Removes all streams at once, without on_end. */
void gt_streams_deinit(struct gt_streams *streams);

/* Replaces the control connection (keeps). */
void gt_streams_set_control(struct gt_streams *streams, struct gt_control_connection *control);
/* @is_paused: the other side cannot be reached, so no ticket is requested. After a pause, call
 * gt_streams_resume. */
void gt_streams_pause(struct gt_streams *streams, bool is_paused);

enum { GT_STREAMS_E_FULL = 1 };

/* Operator: a new stream for @local (takes, also on failure; -1: gt_streams_serve later). E_FULL,
 * -ENOMEM. */
int gt_streams_open(struct gt_streams *streams, struct gt_endpoint_fds local,
                    const char *service) GT_MUST_CHECK;
/* Operator: gives stream @number, which was opened without one, its local socket (takes @fd). */
void gt_streams_serve(struct gt_streams *streams, uint32_t number, int fd);
/* A ticket arrived: stream 0 is the shared connection. If the device does not know the stream, the
 * operator is informed. */
void gt_streams_connect(struct gt_streams *streams, const struct gt_addr *relay,
                        const struct gt_ticket *ticket);
/* STREAM_END of the relay, or of the other side through it: a stream, or one attempt of it, has
 * ended. */
void gt_streams_on_peer_end(struct gt_streams *streams, uint32_t number, uint32_t attempt,
                            unsigned code);
/* The network has changed, or the machine has slept: see gt_data_connection_check. */
void gt_streams_check(struct gt_streams *streams, bool has_slept);
/* The other side can be reached, or can be again: the shared connection is opened if there is none,
 * and requests that may be lost are repeated. */
void gt_streams_resume(struct gt_streams *streams);
/* Resets one stream, whose on_end comes from a later loop iteration. No effect if there is none of
 * this number. */
void gt_streams_reset(struct gt_streams *streams, uint32_t number);
/* As gt_channel_leave. */
void gt_streams_leave(struct gt_streams *streams, uint32_t number);
/* Operator: closes the shared connection until the next stream. Only without streams. */
void gt_streams_close_shared(struct gt_streams *streams);
/* Resets all; each on_end comes from a later loop iteration. */
void gt_streams_abort(struct gt_streams *streams, enum gt_end_reason cause);
/* Removes all at once, each after its on_end; without on_empty. */
void gt_streams_clear(struct gt_streams *streams);

unsigned gt_streams_count(const struct gt_streams *streams);
/* Adds up the bytes of payload that streams have carried which are not over yet. */
void gt_streams_byte_counts(const struct gt_streams *streams, uint64_t *ret_up, uint64_t *ret_down);
/* Calls @fn for each stream. */
typedef void (*gt_streams_each_fn)(void *userdata, const char *service, uint64_t n_up,
                                   uint64_t n_down);
void gt_streams_each(const struct gt_streams *streams, gt_streams_each_fn fn, void *userdata);
bool gt_streams_is_empty(const struct gt_streams *streams);
/* Returns true if any data connection is established: the shared one, or one of a stream. */
bool gt_streams_is_connected(const struct gt_streams *streams);
