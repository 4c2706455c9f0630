/* SPDX-License-Identifier: ISC */
/*
 * The sessions of the relay, by rid and by number, and their ports: which one a frame or a letter
 * is about, and who may have one more. It lives in the control thread.
 */
#pragma once

#include "entry.h"
#include "ports.h"
#include "tombs.h"

struct registry_limits {
    size_t n_sessions, n_sessions_per_identity;
};

enum registry_state {
    REGISTRY_OPEN,
    REGISTRY_DRAINING, /* no new sessions, the old ones go on for a moment */
    REGISTRY_CLOSED,
};

struct registry {
    enum registry_state state;
    struct quota *quota;
    struct ports ports;
    struct plane **planes; /* borrows */
    size_t n_planes;
    uint8_t plane_of_port[UINT16_MAX + 1]; /* of the session that has or had this port */
    struct gt_addr bind;                   /* of sessions' ports */
    struct registry_limits limits;
    struct entry *by_rid, *by_serial;
    struct gt_list dead;
    struct tombs tombs;
    uint64_t serial;
    struct entry_host entries; /* what each session needs of this */
    uint64_t n_born;
};

/* registry_set_planes before the first session. */
int registry_init(struct registry *registry, struct ev_loop *loop, struct quota *quota,
                  uint16_t ports_from, uint16_t ports_to, uint64_t rest_ms) GT_MUST_CHECK;
/* Borrows @planes. */
void registry_set_planes(struct registry *registry, struct plane **planes, size_t n_planes);
void registry_deinit(struct registry *registry);
/* Frees what ended; before the loop sleeps. */
void registry_bury(struct registry *registry);

/* A session of another image of the relay, and its listener, into a plane that is still. Takes *fd,
 * unless it returns NULL (no memory). Its streams, tickets and pairs are the caller's to bring. */
struct entry *registry_adopt(struct registry *registry, const struct handover_session *session,
                             int *fd);

/* From members. */
void registry_on_frame(struct registry *registry, struct member *member,
                       const struct gt_control_frame *frame);
void registry_on_gone(struct registry *registry, struct member *member);
/* Which plane would know the ticket of a JOIN that came in at the main port? */
struct plane *registry_plane_of(const struct registry *registry, const struct gt_join *join);
/* PAIRED and ENDED, from planes. The letter stays the caller's. */
void registry_on_letter(struct registry *registry, const struct letter *letter);

void registry_drain(struct registry *registry);
/* Ends every session. */
void registry_close(struct registry *registry, enum gt_code code);
/* Is any stream joined or about to be? */
bool registry_is_busy(const struct registry *registry);
size_t registry_n_sessions(const struct registry *registry);
/* One log line a session. */
void registry_show(const struct registry *registry);
