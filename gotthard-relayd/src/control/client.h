/* SPDX-License-Identifier: ISC */
/*
 * A client's control connection, seen from the relay (docs/protocol.md section 3): the TLS
 * handshake with the key of its identity, HELLO, and then frames in both directions with a
 * heartbeat. It knows the frames and their order; its host decides about requests. The identity is
 * proved in the handshake and is never read from a frame.
 *
 * The memory of a client is fixed when it is accepted, except for frames in transit (framed
 * connection). A client that does not read its answers is not read either, and is closed when its
 * send queue is full.
 */
#pragma once

#include <ev.h>

#include "control/proof.h"
#include "gotthard/base/clock.h"
#include "gotthard/base/token-bucket.h"
#include "gotthard/net/sock.h"
#include "gotthard/relay/framed-connection.h"
#include "limits/audit.h"
#include "limits/name-count.h"
#include "limits/quota.h"

enum client_state {
    CLIENT_HANDSHAKE,
    CLIENT_HELLO,           /* authenticated; HELLO is missing */
    CLIENT_READY,           /* frames in both directions */
    CLIENT_PAUSED,          /* above the limit of frames: not read for a moment */
    CLIENT_SEND_QUEUE_FULL, /* does not read its answers: closed before the loop sleeps */
    CLIENT_CLOSING,         /* the last frames are being sent */
    CLIENT_CLOSED,          /* freed by client_host_reap */
};

struct client;

/* Returns why @identity, authenticated with the key @key_id, must be disconnected, or
 * GT_CODE_NONE. */
typedef enum gt_code (*client_check_fn)(void *userdata, const char *identity,
                                        const uint8_t key_id[static GT_KEY_ID_SIZE]);

struct client_limits {
    uint64_t handshake_ms;         /* time for the TLS handshake, from the accept */
    uint64_t hello_ms;             /* time for HELLO, from the handshake */
    uint64_t heartbeat_ms;         /* interval of the client's heartbeat, announced in WELCOME */
    uint64_t heartbeat_timeout_ms; /* without a byte: the client is lost */
    uint64_t without_session_ms;   /* time that a client may stay without a session */
    uint64_t lifetime_ms;          /* of a session, announced in WELCOME */
    unsigned n_frames;             /* per second; bursts of twice as many */
    size_t n_per_identity;         /* connections of one identity */
    size_t n_sessions;             /* of one identity; for the text of that limit */
    uint16_t n_streams;            /* per session, announced in WELCOME */
};

struct client_host {
    struct ev_loop *loop;        /* borrowed */
    struct gt_tls_context *tls;  /* borrowed */
    struct audit *audit;         /* borrowed; NULL: none */
    client_check_fn check;       /* NULL: every authenticated client may stay */
    struct client_limits limits; /* set by client_host_set_limits */
    uint8_t boot_id[16];
    size_t n_clients;              /* not CLOSED */
    struct name_counts identities; /* of authenticated connections */
    struct gt_list open, closed;   /* clients, owned */
    struct gt_list to_flush;       /* clients with frames to send before the loop sleeps */
    /* A RENDEZVOUS, OPEN, STREAM_END, LOAD, ACCESS or BYE of a READY client. */
    void (*on_frame)(void *userdata, struct client *client, const struct gt_control_frame *frame);
    /* The last callback, for each client that was READY: nothing can be sent to it any more. */
    void (*on_end)(void *userdata, struct client *client);
    void *userdata; /* also of check */
};

struct client {
    enum client_state state;
    struct client_host *host; /* borrowed */
    struct gt_addr addr;
    struct quota_charge charge;
    struct proof proof; /* of its ClientHello; the PSK is wiped after the handshake */
    char identity[GT_IDENTITY_MAX + 1]; /* "g1:o:alice"; "" before authentication */
    enum gt_role role;
    char name[GT_NAME_MAX + 1];
    struct name_count *same_identity; /* connections of this identity; NULL before authentication */
    ev_io io;
    ev_timer timer;
    uint64_t entered_at, received_at, pinged_at, without_session_since; /* gt_clock_ms */
    struct gt_list slots_held;     /* session slots, changed by client_enter_slot and _leave_slot */
    struct gt_token_bucket frames; /* that may still be received */
    const char *reason;            /* for the end, static or inside ->framed; NULL: not ended */
    bool is_hung_up; /* closed as the kernel closes the connection of a killed process */
    struct gt_list of_host, to_flush;
    struct gt_framed_connection framed;
};

/* Records an event of @client in the audit. @reason: may be NULL. */
void client_note(const struct client *client, enum gt_audit_kind kind, enum gt_code code,
                 const char *reason);

/* Clears @host and keeps @loop. The caller sets tls, boot_id and the callbacks, then the
 * limits. */
void client_host_init(struct client_host *host, struct ev_loop *loop);
/* Applies to open clients as well. */
void client_host_set_limits(struct client_host *host, const struct client_limits *limits);
/* Checks all authenticated clients again. Closes those that must be disconnected, as by
 * client_close, after a BYE with the reason. Calls on_end. */
void client_host_check(struct client_host *host);
/* Sends queued frames and closes clients whose send queue is full. Before the loop sleeps. May call
 * on_end. */
void client_host_flush(struct client_host *host);
/* Frees the CLOSED clients. Once per turn of the loop; never within a callback. */
void client_host_reap(struct client_host *host);
/* Closes and frees all clients. Calls on_end. */
void client_host_deinit(struct client_host *host);

/* Starts the handshake on @fd, accepted at @since (gt_clock_ms), with the proof of its
 * ClientHello. Takes @fd and the content of @charge; closes and releases both if out of memory.
 * Copies @proof. Calls nothing back: the handshake takes another round trip. */
void client_new(struct client_host *host, int fd, const struct gt_addr *addr, uint64_t since,
                struct quota_charge *charge, const struct proof *proof);

/*
 * Queues a frame, sent before the loop sleeps. Callable in any state: the frame is dropped after
 * the end of the client, or if the send queue is full, which ends the client. Never calls back, so
 * that the host may send to any client at any time.
 */
void client_send(struct client *client, const struct gt_control_frame *frame);
/* Sends a BYE or ERROR (@type) with @code. @rid: NULL for a frame about the connection. */
void client_send_code(struct client *client, enum gt_control_type type, const uint8_t *rid,
                      enum gt_code code);
/* Sends ERROR with @code, and before it the value of the limit that @code names. */
void client_send_limit(struct client *client, const uint8_t *rid, enum gt_code code, size_t value);
/* Sends the queued frames and close_notify, then closes, within 1 s. @reason (static) is logged.
 * Calls on_end before it returns. No effect if the client is closing. */
void client_close(struct client *client, const char *reason);
/* Sends ERROR with @code, then closes like client_close. */
void client_fail(struct client *client, enum gt_code code, const uint8_t *rid, const char *reason);

/* The client takes a session's slot. @slot: the session's list entry for the client's role. */
void client_enter_slot(struct client *client, struct gt_list *slot);
/* The client leaves a session's slot. */
void client_leave_slot(struct client *client, struct gt_list *slot);
/* Returns true if the client holds a slot in any session. */
static inline bool client_has_slot(const struct client *client)
{
    return !gt_list_is_empty(&client->slots_held);
}
/* Charges an expensive request, so that the limit is @n_per_second of them. */
void client_charge(struct client *client, unsigned n_per_second);
