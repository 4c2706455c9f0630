/* SPDX-License-Identifier: ISC */
/*
 * A channel ties a local endpoint to a stream. The stream is attached to the shared connection of
 * the session (shared-connection.h), or to a data connection of its own (data-connection.h), or for
 * a while to nothing. Bytes move both ways until both ends have sent END and received its
 * acknowledgement, or until the stream is aborted: then the local socket gets an RST, never an end
 * of file. The socket itself may close earlier: a stream whose socket was reset delivers the last
 * bytes of that socket without it.
 *
 * Each attachment is an attempt of the stream, and the operator assigns their numbers. A stream
 * begins on the shared connection. The operator's end moves it to a data connection of its own when
 * it needs one (channel-move.c), back when it is idle, and back as well when that connection is
 * lost. Neither end loses a byte by that: a new attachment begins with HELLO, both ways.
 *
 * A stream that is attached to nothing keeps its local socket open, which is read as long as there
 * is room. After resume_s it is reset. A stream that is over is kept in the same way for a peer
 * that may not know yet.
 */
#pragma once

#include <ev.h>

#include "gotthard/proto/stream.h"
#include "gotthard/tunnel/data-connection.h"
#include "gotthard/tunnel/endpoint.h"
#include "gotthard/tunnel/shared-connection.h"
#include "gotthard/tunnel/sweep.h"

struct gt_channel;

struct gt_channel_settings {
    struct ev_loop *loop;
    enum gt_role role;
    const uint8_t *session_key;          /* K_sess; keeps */
    struct gt_tls_context *tls;          /* keeps: client for an operator, server for a device */
    enum gt_record_suite suite;          /* its preferred one; 0: AES */
    struct gt_path *path;                /* shared by all streams; keeps */
    struct gt_shared_connection *shared; /* keeps */
    struct gt_sweep *sweep;              /* shared by all streams; keeps */
    size_t ring_size;                    /* bytes of each direction, at most */
    struct gt_window_memory *memory;     /* shared by all streams; keeps; NULL: no limit */
    double heartbeat_s, timeout_s;       /* of its own data connection; 0: 25 and 45 */
    double resume_s;   /* attached to nothing, at most; 0: a lost connection resets the stream */
    double linger_s;   /* before a reset, without progress of the local socket; 0: GT_LINGER_S */
    double vanished_s; /* without an answer of the local side's machine; as in gt_silence_init */
};

struct gt_channel_events {
    /* Operator: the stream needs a data connection of its own, for @attempt. Request a ticket from
     * the relay, then call gt_channel_connect(). Returns false if that is not possible now. */
    bool (*on_ticket_needed)(struct gt_channel *channel, void *userdata, uint32_t attempt);
    /* Device: its own data connection was lost, or failed, and the operator may not know. Notify it
     * through the relay, so that it begins again on the shared connection. Called again until it
     * does. @is_black_hole: the data connection lost large packets. */
    void (*on_connection_lost)(struct gt_channel *channel, void *userdata, uint32_t attempt,
                               bool is_black_hole);
    /* Sent data is not acknowledged: request an answer from the relay. */
    void (*on_ask)(struct gt_channel *channel, void *userdata);
    /* Returns when the relay last answered anything, in seconds of gt_clock(). */
    double (*relay_at)(struct gt_channel *channel, void *userdata);
    /* Device: the operator named the service. Answer with gt_channel_serve or gt_channel_reject,
     * now or later. */
    void (*on_service)(struct gt_channel *channel, void *userdata, const char *service);
    /* Operator: the device has connected the target; once. NULL: not wanted. */
    void (*on_connected)(struct gt_channel *channel, void *userdata);
    /* Both HELLOs are exchanged; once for each attachment. NULL: not wanted. */
    void (*on_up)(struct gt_channel *channel, void *userdata);
    /* Over: GT_RST_NONE if it ended well. Everything is closed. The last callback: free the channel
     * inside it or later. */
    void (*on_end)(struct gt_channel *channel, void *userdata, enum gt_rst code);
};

/* The ticket is of another stream, of an old attempt, or too late. */
enum { GT_CHANNEL_E_STALE = 1 };

/*
 * Keeps @settings and @events. @local: operator: takes, also on failure; -1: gt_channel_serve
 * later. Bytes that are already readable leave with HELLO. Device: -1 and NULL. An operator's
 * stream is attached to the shared connection at once if that is up. The device's is attached by
 * gt_channel_begin. -ENOMEM.
 */
int gt_channel_new(const struct gt_channel_settings *settings, uint32_t number,
                   struct gt_endpoint_fds local, const char *service,
                   const struct gt_channel_events *events, void *userdata,
                   struct gt_channel **ret) GT_MUST_CHECK;
/* Closes at once, without on_end: for the end of the process. Not inside a callback other than
 * on_end. Takes NULL. */
struct gt_channel *gt_channel_free(struct gt_channel *channel);

/* The shared connection is up: the operator's stream is attached to it, unless it is attached
 * already. The device's is forgotten soon if it is over and the operator does not begin it again.
 */
void gt_channel_attach(struct gt_channel *channel);
/* Device: the operator begins @attempt of the stream on the shared connection. Attaches the stream
 * to it and returns its member; or NULL if the attempt is not greater than all before, which resets
 * the stream, or if the stream is about to be freed. */
struct gt_shared_member *gt_channel_begin(struct gt_channel *channel, uint32_t attempt);
/* Its member of the shared connection, if it is attached to it; or NULL. */
struct gt_shared_member *gt_channel_member(struct gt_channel *channel);

/* A ticket arrived: dial @relay (address and port) beside the present attachment. E_STALE, -ENOMEM.
 */
int gt_channel_connect(struct gt_channel *channel, const struct gt_addr *relay,
                       const struct gt_ticket *ticket) GT_MUST_CHECK;
/* Device: the service is connected (takes @fd), or could not be. Operator: gives a stream without
 * an endpoint its local socket, once. */
void gt_channel_serve(struct gt_channel *channel, int fd);
void gt_channel_reject(struct gt_channel *channel, enum gt_rst code);
/* The relay is reachable again: requests and reports that it may have missed are repeated now, from
 * inside. */
void gt_channel_resume(struct gt_channel *channel);
/* Its own data connection of @attempt is lost at the other side, or will not come about: drop it
 * here as well. */
void gt_channel_drop_connection(struct gt_channel *channel, uint32_t attempt);
/* The network has changed, or the machine has slept: see gt_data_connection_check. */
void gt_channel_check(struct gt_channel *channel, bool has_slept);
/* Resets the stream for good: RST to both sides as far as it is attached, then on_end from a later
 * loop iteration. A stream that is over already keeps its result. */
void gt_channel_abort(struct gt_channel *channel, enum gt_rst code);

/* Operator: the application is gone. The bytes that it has sent are delivered, and then its reset;
 * if the stream is attached to nothing, at once. */
void gt_channel_leave(struct gt_channel *channel);

uint32_t gt_channel_number(const struct gt_channel *channel);
/* The size of TCP segments on its last own data connection; 0: the kernel's. */
uint16_t gt_channel_segment(const struct gt_channel *channel);
/* The last attempt that was assigned or dialed; 0: none. */
uint32_t gt_channel_attempt(const struct gt_channel *channel);
/* Returns true if a data connection of its own was ever requested or dialed: the relay knows the
 * stream. */
bool gt_channel_is_known_to_relay(const struct gt_channel *channel);
/* Returns true if it is attached to nothing. */
bool gt_channel_is_waiting(const struct gt_channel *channel);
/* Returns true if an established data connection of its own serves it. */
bool gt_channel_is_on_its_own(const struct gt_channel *channel);
/* Returns true if the stream is over, even if its last frames are still to be sent. */
bool gt_channel_is_over(const struct gt_channel *channel);
const char *gt_channel_service(const struct gt_channel *channel);
/* The result, or GT_RST_NONE; final as soon as the stream is reset, before on_end. */
enum gt_rst gt_channel_code(const struct gt_channel *channel);
/* Payload bytes so far, operator to device and device to operator. */
void gt_channel_byte_counts(const struct gt_channel *channel, uint64_t *ret_up, uint64_t *ret_down);
