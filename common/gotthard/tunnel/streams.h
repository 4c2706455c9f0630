/* SPDX-License-Identifier: ISC */
/*
 * The streams of one tunnel, each with its channel: a table by stream number. The operator opens a
 * stream; on the device its first ticket creates it; at its end it is removed. The table requests
 * tickets from the relay and reports ends to it, over the tunnel's control connection. It does not
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
    /* A stream is over; it is removed after this returns. The relay is informed. Not for spares. */
    void (*on_end)(void *userdata, const char *service, uint32_t stream, enum gt_rst code,
                   uint64_t n_up, uint64_t n_down);
    /* For the object that embeds @streams: a spare is over; the last stream is removed. */
    void (*on_spare_end)(struct gt_streams *streams, enum gt_rst code);
    void (*on_empty)(struct gt_streams *streams);
};

struct gt_streams {
    struct gt_channel_settings channels; /* of each channel */
    struct gt_window_memory memory;      /* shared by all */
    struct gt_path path;                 /* shared by all; its owner sets it up */
    struct gt_streams_events events;
    void *userdata;
    unsigned max;
    uint32_t last;   /* greatest stream number assigned or received */
    uint32_t opened; /* number of the last stream that _open or _bind was called for */
    struct streams_entry *entries;
    uint8_t session_key[GT_KEY_SIZE];
    struct gt_control_connection *control; /* borrows: the tunnel's */
    bool is_paused;                        /* requests no ticket */
};

/* Keeps the loop, copies the session key, creates the TLS context. @userdata is for on_service and
 * on_end. Call gt_streams_deinit also after a failure. */
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
/* Operator: a spare for a later local connection. E_FULL, -ENOMEM. */
int gt_streams_open_spare(struct gt_streams *streams) GT_MUST_CHECK;
/* Operator: ends an unused spare, if there is one. It counts until on_spare_end. */
void gt_streams_drop_spare(struct gt_streams *streams);
/* Operator: gives @local (takes, if true is returned) to a spare, preferably one that is up.
 * Returns false if there is none. */
bool gt_streams_bind(struct gt_streams *streams, struct gt_endpoint_fds local, const char *service);
/* Spares; on the device: streams without a service yet. */
unsigned gt_streams_n_spares(const struct gt_streams *streams);
/* Operator: spares that are up. */
unsigned gt_streams_n_ready(const struct gt_streams *streams);
/* Returns true if there is room for one more stream, with @n places left after it. */
bool gt_streams_has_room(const struct gt_streams *streams, unsigned n);
/* A ticket arrived. On the device, the first ticket of a stream creates it; if it must not, the
 * operator is informed of the reason. */
void gt_streams_connect(struct gt_streams *streams, const struct gt_addr *relay,
                        const struct gt_ticket *ticket);
/* STREAM_END of the relay, or of the other side through it: a stream, or one attempt of it, has
 * ended. */
void gt_streams_on_peer_end(struct gt_streams *streams, uint32_t number, uint32_t attempt,
                            unsigned code);
/* The network has changed, or the machine has slept: see gt_data_connection_check. */
void gt_streams_check(struct gt_streams *streams, bool has_slept);
/* The other side can be reached again: parked streams request their tickets now. */
void gt_streams_resume(struct gt_streams *streams);
/* Resets one stream, whose on_end comes from a later loop iteration. No effect if there is none of
 * this number. */
void gt_streams_reset(struct gt_streams *streams, uint32_t number);
/* As gt_channel_leave. */
void gt_streams_leave(struct gt_streams *streams, uint32_t number);
/* Resets all; each on_end comes from a later loop iteration. Spares are removed at once, silently.
 */
void gt_streams_abort(struct gt_streams *streams, enum gt_end_reason cause);
/* Removes all at once, each after its on_end; without on_empty. */
void gt_streams_clear(struct gt_streams *streams);

/* Streams with a service, that is without spares. */
unsigned gt_streams_count(const struct gt_streams *streams);
/* Adds up the bytes of payload that streams have carried which are not over yet. */
void gt_streams_byte_counts(const struct gt_streams *streams, uint64_t *ret_up, uint64_t *ret_down);
/* Calls @fn for each stream with a service. */
typedef void (*gt_streams_each_fn)(void *userdata, const char *service, uint64_t n_up,
                                   uint64_t n_down);
void gt_streams_each(const struct gt_streams *streams, gt_streams_each_fn fn, void *userdata);
bool gt_streams_is_empty(const struct gt_streams *streams);
/* Returns true if any stream has an established data connection. */
bool gt_streams_is_connected(const struct gt_streams *streams);
