/* SPDX-License-Identifier: ISC */
/*
 * A relay for tests, in the test's own loop: it accepts control connections, shakes hands, and
 * hands every frame to the test, which answers as it likes, rightly or wrongly. Data connections
 * are test-tunnel.c's. Include after cmocka.h.
 */
#pragma once

#include <ev.h>
#include <stdio.h>

#include "gotthard/control.h"
#include "gotthard/sock.h"
#include "gotthard/tls.h"

#ifndef MEMBERS_MAX
#define MEMBERS_MAX 8
#endif

static const uint8_t fake_key[GT_KEY_SIZE] = "the relay's key of every client!";
static const uint8_t fake_rid[GT_RID_SIZE] = "rendezvous here";

struct fake_relay;

struct fake_member {
    struct fake_relay *relay;
    int fd; /* -1: free */
    bool is_greeted;
    enum gt_role role;
    struct gt_tls *tls;
    ev_io io;
    uint8_t in[8 * GT_CONTROL_FRAME_MAX];
    size_t n_in;
    unsigned n_frames[256]; /* by type */
};

struct fake_relay {
    struct ev_loop *loop;
    struct gt_tls_context *context;
    unsigned n_goodbyes; /* clients that closed in TLS */
    unsigned n_resets;   /* ... and tore the connection all the same */
    int listener;
    uint16_t port;
    ev_io acceptable;
    struct fake_member members[MEMBERS_MAX];
    bool is_mute;   /* accepts and says nothing, not even TLS */
    bool is_curt;   /* closes what it accepts */
    bool is_unsure; /* knows another key */
    unsigned n_accepted;
    uint16_t version;
    uint32_t heartbeat_ms;
    void (*on_frame)(struct fake_member *member, const struct gt_control_frame *frame);
    void *userdata;
};

static inline bool fake_relay_find(void *userdata, struct gt_span identity,
                                   uint8_t ret[static GT_KEY_SIZE])
{
    struct fake_member *member = userdata;
    char name[GT_NAME_MAX + 1];
    if (!gt_key_parse_identity(identity, &member->role, name))
        return false;
    memcpy(ret, fake_key, GT_KEY_SIZE);
    ret[0] ^= member->relay->is_unsure;
    return true;
}

static inline void fake_member_close(struct fake_member *member)
{
    if (member->fd < 0)
        return;
    ev_io_stop(member->relay->loop, &member->io);
    member->tls = gt_tls_free(member->tls);
    gt_close(&member->fd);
}

static inline void fake_member_watch(struct fake_member *member)
{
    if (member->fd < 0)
        return;
    ev_io_stop(member->relay->loop, &member->io);
    ev_io_set(&member->io, member->fd,
              EV_READ | (member->tls && gt_tls_wants_write(member->tls) ? EV_WRITE : 0));
    ev_io_start(member->relay->loop, &member->io);
}

/* Any bytes, in one record. */
static inline void fake_member_say_bytes(struct fake_member *member, const void *data, size_t n)
{
    assert_int_equal(gt_tls_write(member->tls, data, n), 0);
    if (gt_tls_flush(member->tls) == GT_TLS_E_BROKEN)
        fake_member_close(member);
    fake_member_watch(member);
}

static inline void fake_member_say(struct fake_member *member, const struct gt_control_frame *frame)
{
    uint8_t data[GT_CONTROL_FRAME_MAX];
    fake_member_say_bytes(member, data, gt_control_encode(frame, data));
}

static inline struct gt_control_frame fake_frame(enum gt_control_type type)
{
    struct gt_control_frame frame = {.type = type};
    memcpy(frame.rid, fake_rid, sizeof frame.rid);
    if (type == GT_CONTROL_STREAM_END)
        frame.stream_end.stream = frame.stream_end.attempt = 1;
    if (type == GT_CONTROL_TICKET)
        frame.ticket.stream = frame.ticket.attempt = 1;
    return frame;
}

static inline void fake_member_welcome(struct fake_member *member)
{
    struct gt_control_frame frame = {.type = GT_CONTROL_WELCOME};
    frame.welcome.version = member->relay->version;
    frame.welcome.heartbeat_ms = member->relay->heartbeat_ms;
    frame.welcome.max_streams = 64;
    fake_member_say(member, &frame);
}

static inline void fake_member_session(struct fake_member *member, uint16_t port, bool is_peer_up)
{
    struct gt_control_frame frame = fake_frame(GT_CONTROL_SESSION);
    frame.session.port = port;
    frame.session.ttl_left_s = 3600;
    frame.session.is_peer_up = is_peer_up;
    fake_member_say(member, &frame);
}

static inline void fake_member_peer(struct fake_member *member, bool is_up, enum gt_code reason)
{
    struct gt_control_frame frame = fake_frame(GT_CONTROL_PEER);
    frame.peer.is_up = is_up;
    frame.peer.reason = (uint8_t)reason;
    fake_member_say(member, &frame);
}

static inline void fake_member_code(struct fake_member *member, enum gt_control_type type,
                                    enum gt_code code)
{
    struct gt_control_frame frame = fake_frame(type);
    frame.code = (uint16_t)code;
    fake_member_say(member, &frame);
}

static inline void fake_member_parse(struct fake_member *member)
{
    struct gt_control_frame frame;
    size_t used;
    while (member->fd >= 0 && gt_control_decode(member->in, member->n_in, &frame, &used) == 0) {
        member->n_in -= used;
        memmove(member->in, member->in + used, member->n_in);
        member->n_frames[frame.type]++;
        member->relay->on_frame(member, &frame);
    }
}

static inline void fake_member_on_io(struct ev_loop *loop, ev_io *w, int revents)
{
    struct fake_member *member = w->data;
    size_t n;
    int r = 0;
    if (!member->is_greeted) {
        r = gt_tls_handshake(member->tls);
        member->is_greeted = r == 0;
    }
    while (r == 0 && member->fd >= 0 &&
           (r = gt_tls_read(member->tls, member->in + member->n_in,
                            sizeof member->in - member->n_in, &n)) == 0) {
        member->n_in += n;
        fake_member_parse(member);
    }
    if (r == GT_TLS_E_CLOSED) {
        uint8_t byte;
        ssize_t after = recv(member->fd, &byte, 1, 0);
        member->relay->n_resets += after < 0 && errno == ECONNRESET;
        member->relay->n_goodbyes++;
    }
    if (r == GT_TLS_E_CLOSED || r == GT_TLS_E_BROKEN)
        fake_member_close(member);
    else if (member->fd >= 0 && gt_tls_flush(member->tls) == GT_TLS_E_BROKEN)
        fake_member_close(member);
    fake_member_watch(member);
}

static inline struct fake_member *fake_relay_add(struct fake_relay *relay, int fd)
{
    for (size_t i = 0; i < MEMBERS_MAX; i++) {
        struct fake_member *member = &relay->members[i];
        if (member->fd >= 0)
            continue;
        *member = (struct fake_member){.relay = relay, .fd = fd};
        ev_init(&member->io, fake_member_on_io);
        member->io.data = member;
        return member;
    }
    fail_msg("the fake relay is full");
    return NULL;
}

static inline void fake_relay_on_acceptable(struct ev_loop *loop, ev_io *w, int revents)
{
    struct fake_relay *relay = w->data;
    struct gt_addr addr;
    int fd = gt_sock_accept(relay->listener, &addr);
    if (fd < 0)
        return;
    relay->n_accepted++;
    if (relay->is_curt) {
        close(fd);
        return;
    }
    struct fake_member *member = fake_relay_add(relay, fd);
    if (relay->is_mute)
        return;
    assert_int_equal(gt_tls_new_server(relay->context, fd, fake_relay_find, member, &member->tls),
                     0);
    fake_member_watch(member);
}

static inline int fake_listen(uint16_t *ret_port)
{
    struct gt_addr addr;
    assert_int_equal(gt_addr_parse("127.0.0.1", 0, &addr), 0);
    int fd = gt_sock_listen(&addr, 128);
    assert_true(fd >= 0);
    assert_int_equal(gt_sock_local(fd, &addr), 0);
    *ret_port = gt_addr_port(&addr);
    return fd;
}

static inline void fake_relay_init(struct fake_relay *relay, struct ev_loop *loop)
{
    *relay = (struct fake_relay){.loop = loop, .version = GT_CONTROL_VERSION};
    for (size_t i = 0; i < MEMBERS_MAX; i++)
        relay->members[i].fd = -1;
    assert_int_equal(gt_tls_context_new(GT_TLS_SERVER, GT_CONTROL_ALPN, &relay->context), 0);
    relay->listener = fake_listen(&relay->port);
    ev_io_init(&relay->acceptable, fake_relay_on_acceptable, relay->listener, EV_READ);
    relay->acceptable.data = relay;
    ev_io_start(loop, &relay->acceptable);
}

static inline void fake_relay_deinit(struct fake_relay *relay)
{
    for (size_t i = 0; i < MEMBERS_MAX; i++)
        fake_member_close(&relay->members[i]);
    ev_io_stop(relay->loop, &relay->acceptable);
    gt_close(&relay->listener);
    gt_tls_context_free(relay->context);
}

/* The registered member of a role, or NULL. */
static inline struct fake_member *fake_relay_member(struct fake_relay *relay, enum gt_role role)
{
    for (size_t i = 0; i < MEMBERS_MAX; i++)
        if (relay->members[i].fd >= 0 && relay->members[i].role == role &&
            relay->members[i].n_frames[GT_CONTROL_RENDEZVOUS] > 0)
            return &relay->members[i];
    return NULL;
}

/* --- running ---------------------------------------------------------------------------------- */

static inline void fake_on_guard(struct ev_loop *loop, ev_timer *w, int revents)
{
    *(bool *)w->data = true;
}

/* Turns the loop until @is_done(userdata), or for @seconds; whether it was done. */
static inline bool fake_run(struct ev_loop *loop, bool (*is_done)(void *userdata), void *userdata,
                            double seconds)
{
    bool is_late = false;
    ev_timer guard;
    ev_now_update(loop);
    ev_timer_init(&guard, fake_on_guard, seconds, 0);
    guard.data = &is_late;
    ev_timer_start(loop, &guard);
    while (!is_late && !is_done(userdata))
        ev_run(loop, EVRUN_ONCE);
    ev_timer_stop(loop, &guard);
    return is_done(userdata);
}
