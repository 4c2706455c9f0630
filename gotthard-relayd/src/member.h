/* SPDX-License-Identifier: ISC */
/*
 * A client's control connection, seen from the relay: TLS with the key of its identity, HELLO, and
 * then frames both ways with a heartbeat. It knows frames and their order; what they ask for is its
 * whole's to decide. Who it is was proved in the handshake and is never read from a frame.
 *
 * Its memory is fixed when it is accepted, but for frames on their way (wire.h). One that does not
 * read what it is sent is not read either, and in the end lost.
 */
#pragma once

#include <ev.h>

#include "gotthard/sock.h"
#include "now.h"
#include "quota.h"
#include "tally.h"
#include "wire.h"

enum member_state {
    MEMBER_HANDSHAKE,
    MEMBER_HELLO,   /* proved who it is; its HELLO is awaited */
    MEMBER_READY,   /* frames both ways */
    MEMBER_PAUSED,  /* sent too many frames: not read for a moment */
    MEMBER_STUCK,   /* does not read what it is sent: closed before the loop sleeps */
    MEMBER_CLOSING, /* its last frames are on their way out */
    MEMBER_DEAD,    /* closed: to be buried */
};

struct member;

struct member_limits {
    uint64_t handshake_ms, hello_ms, heartbeat_ms, dead_ms, unseated_ms, lifetime_ms;
    unsigned n_frames;     /* per second */
    size_t n_per_identity; /* connections */
    uint16_t n_streams;
};

struct member_host {
    struct ev_loop *loop;
    struct gt_tls_context *tls;      /* borrows */
    gt_tls_psk_fn psk, previous_psk; /* previous: NULL but while keys are changed */
    struct member_limits limits;
    uint8_t boot_id[16];
    size_t n_members;
    struct tallies identities;          /* of the connections that proved one */
    struct gt_list living, dead, dirty; /* dirty: something to flush before sleep */
    /* One of RENDEZVOUS, OPEN, STREAM_END, BYE, of a READY member. */
    void (*on_frame)(void *userdata, struct member *member, const struct gt_control_frame *frame);
    /* It was READY and is not any more: nothing can be sent to it. */
    void (*on_gone)(void *userdata, struct member *member);
    void *userdata;
};

struct member {
    enum member_state state;
    struct member_host *host;
    struct gt_addr addr;
    struct quota_charge charge;
    char identity[GT_IDENTITY_MAX + 1]; /* "g1:o:alice" */
    enum gt_role role;
    char name[GT_NAME_MAX + 1];
    struct tally *alike; /* connections of this identity; NULL until it is proved */
    ev_io io;
    ev_timer timer;
    uint64_t entered_at, heard_at, pinged_at, unseated_at;
    struct gt_list seats; /* sessions it is in, kept by its whole through member_seat/unseat */
    unsigned tokens;      /* frames it may still send this second */
    uint64_t tokens_at;
    const char *why; /* it ended */
    bool is_hung_up; /* as the connection of a process ends that is killed */
    struct gt_list of_host, dirty;
    struct wire wire;
};

void member_host_init(struct member_host *host, struct ev_loop *loop);
/* Sends what is queued and frees the dead; before the loop sleeps. */
void member_host_settle(struct member_host *host);
void member_host_deinit(struct member_host *host);

/* Takes @fd, accepted at @since, and what @charge holds; closes both if it cannot. */
void member_new(struct member_host *host, int fd, const struct gt_addr *addr, uint64_t since,
                struct quota_charge *charge);

/*
 * Queues a frame; it goes out before the loop sleeps. Fine in any state: dropped when it is over,
 * and when there is no room (the member is STUCK then). Never calls back: its whole may send to
 * anybody in the middle of anything.
 */
void member_send(struct member *member, const struct gt_control_frame *frame);
void member_send_code(struct member *member, enum gt_control_type type, const uint8_t *rid,
                      enum gt_code code);
/* @seat: of a session, one for each role. */
void member_seat(struct member *member, struct gt_list *seat);
void member_unseat(struct member *member, struct gt_list *seat);
static inline bool member_is_seated(const struct member *member)
{
    return !gt_list_is_empty(&member->seats);
}
/* It asked for something costly: as many frames less this second as make it ten a second. */
void member_tire(struct member *member);
/* Sends what is queued, says goodbye in TLS and closes; 1 s at most. @why (static) for the log. */
void member_close(struct member *member, const char *why);
/* ERROR with @code first. */
void member_fail(struct member *member, enum gt_code code, const uint8_t *rid, const char *why);
