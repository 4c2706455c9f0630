/* SPDX-License-Identifier: ISC */
/*
 * A channel ties a local endpoint to a stream, over one data connection after another
 * (data-connection.h). Bytes move both ways until both ends have sent END and received its
 * acknowledgement, or until the stream is aborted: then the local socket gets an RST, never an end
 * of file. The socket itself may close earlier: a stream whose socket was reset delivers the last
 * bytes of that socket without it.
 *
 * When a data connection is lost the stream is parked: the local socket stays open, and is read as
 * long as there is room. The operator's end requests another ticket, with back-off; the device's
 * end waits for it. After resume_s without a data connection the stream is reset. A stream that is
 * over is kept in the same way for a peer that may not know yet: until its close_notify is
 * received, or for resume_s.
 *
 * A spare is a stream without a service: joined, handshaken and idle, so that the next local
 * connection needs no round trip (BIND). A spare that loses its data connection is not resumed. A
 * bound stream is a stream like any other, whether the peer received BIND before a cut or receives
 * it afterwards.
 */
#pragma once

#include <ev.h>

#include "gotthard/proto/stream.h"
#include "gotthard/tunnel/data-connection.h"
#include "gotthard/tunnel/endpoint.h"

struct gt_channel;

struct gt_channel_settings {
    struct ev_loop *loop;
    enum gt_role role;
    const uint8_t *session_key;      /* K_sess; keeps */
    struct gt_tls_context *tls;      /* keeps: client for an operator, server for a device */
    struct gt_path *path;            /* shared by all streams; keeps */
    size_t ring_size;                /* bytes of each direction, at most */
    struct gt_window_memory *memory; /* shared by all streams; keeps; NULL: no limit */
    double heartbeat_s, timeout_s;   /* of a data connection; 0: 25 and 45 */
    double resume_s;   /* without a data connection, at most; 0: a lost one resets the stream */
    double linger_s;   /* before a reset, without progress of the local socket; 0: GT_LINGER_S */
    double vanished_s; /* without an answer of the local side's machine; as in gt_silence_init */
};

struct gt_channel_events {
    /* Operator: the channel needs a data connection for @attempt. Request a ticket from the relay,
     * then call gt_channel_connect(). Called again, with a greater attempt, when no ticket arrived
     * or the data connection was lost. */
    void (*on_ticket_needed)(struct gt_channel *channel, void *userdata, uint32_t attempt);
    /* Device: an established data connection was lost, and the operator may not know. Notify it
     * through the relay, so that it requests another ticket. Called again until one arrives.
     * @is_black_hole: the data connection lost large packets. */
    void (*on_connection_lost)(struct gt_channel *channel, void *userdata, uint32_t attempt,
                               bool is_black_hole);
    /* Sent data is not acknowledged: request an answer from the relay. */
    void (*on_ask)(struct gt_channel *channel, void *userdata);
    /* Returns when the relay last answered anything, in seconds of gt_clock(). */
    double (*relay_at)(struct gt_channel *channel, void *userdata);
    /* Device: the operator named the service (HELLO or BIND). Answer with gt_channel_serve or
     * gt_channel_reject, now or later. */
    void (*on_service)(struct gt_channel *channel, void *userdata, const char *service);
    /* Operator: the device has connected the target; once. NULL: not wanted. */
    void (*on_connected)(struct gt_channel *channel, void *userdata);
    /* Both HELLOs are exchanged; once for each data connection. */
    void (*on_up)(struct gt_channel *channel, void *userdata);
    /* Over: GT_RST_NONE if it ended well. Everything is closed. The last callback: free the channel
     * inside it or later. */
    void (*on_end)(struct gt_channel *channel, void *userdata, enum gt_rst code);
};

/* The ticket is of another stream, of an old attempt, or too late. */
enum { GT_CHANNEL_E_STALE = 1 };

/*
 * @local: operator: takes, also on failure; -1 with @service "" for a spare, or for
 * gt_channel_serve later. Device: -1 and NULL. Call gt_channel_resume next: it requests the first
 * ticket. -ENOMEM.
 */
int gt_channel_new(const struct gt_channel_settings *settings, uint32_t number,
                   struct gt_endpoint_fds local, const char *service,
                   const struct gt_channel_events *events, void *userdata,
                   struct gt_channel **ret) GT_MUST_CHECK;
/* Closes at once, without on_end: for the end of the process. Not inside a callback other than
 * on_end. Takes NULL. */
struct gt_channel *gt_channel_free(struct gt_channel *channel);

/* A ticket arrived: dial @relay (address and port). A newer attempt closes the older data
 * connection. E_STALE, -ENOMEM. */
int gt_channel_connect(struct gt_channel *channel, const struct gt_addr *relay,
                       const struct gt_ticket *ticket) GT_MUST_CHECK;
/* Operator: gives a spare its endpoint (takes @local; -1: gt_channel_serve later) and its service.
 * Bytes that are already readable go out in the same write. */
void gt_channel_bind(struct gt_channel *channel, struct gt_endpoint_fds local, const char *service);
/* Device: the service is connected (takes @fd), or could not be. Operator: gives a stream without
 * an endpoint its local socket, once. */
void gt_channel_serve(struct gt_channel *channel, int fd);
void gt_channel_reject(struct gt_channel *channel, enum gt_rst code);
/* The channel is new, or the relay is reachable again: requests a ticket now, if one is needed
 * (on_ticket_needed or on_connection_lost come from inside). */
void gt_channel_resume(struct gt_channel *channel);
/* The other side has lost the data connection of @attempt: drop it here as well. */
void gt_channel_drop_connection(struct gt_channel *channel, uint32_t attempt);
/* The network has changed, or the machine has slept: see gt_data_connection_check. */
void gt_channel_check(struct gt_channel *channel, bool has_slept);
/* Resets the stream for good: RST to both sides as far as there is a data connection, then on_end
 * from a later loop iteration. A stream that is over already keeps its result. */
void gt_channel_abort(struct gt_channel *channel, enum gt_rst code);

/* Operator: the application is gone. The bytes that it has sent are delivered, and then its reset;
 * without a data connection at once. */
void gt_channel_leave(struct gt_channel *channel);

uint32_t gt_channel_number(const struct gt_channel *channel);
/* The size of TCP segments on the last data connection; 0: the kernel's. */
uint16_t gt_channel_segment(const struct gt_channel *channel);
/* The last attempt that was requested or dialed. */
uint32_t gt_channel_attempt(const struct gt_channel *channel);
/* Returns true if it has no service. On the device: or none yet. */
bool gt_channel_is_spare(const struct gt_channel *channel);
/* Operator: returns true for a spare that can still be bound. */
bool gt_channel_is_bindable(const struct gt_channel *channel);
bool gt_channel_is_up(const struct gt_channel *channel);
/* Returns true if an established data connection serves it, even if only for the last frames. */
bool gt_channel_is_connected(const struct gt_channel *channel);
const char *gt_channel_service(const struct gt_channel *channel);
/* The result, or GT_RST_NONE; final as soon as the stream is reset, before on_end. */
enum gt_rst gt_channel_code(const struct gt_channel *channel);
/* Payload bytes so far, operator to device and device to operator. */
void gt_channel_byte_counts(const struct gt_channel *channel, uint64_t *ret_up, uint64_t *ret_down);
