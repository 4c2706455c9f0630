/* SPDX-License-Identifier: ISC */
/*
 * One session in the registry: where the decisions of session.c and streams.c turn into frames to
 * its members, letters to its plane, and a timer. It knows its two members and its plane, and
 * nothing of other sessions.
 */
#pragma once

#define HASH_NONFATAL_OOM 1 /* a full table refuses one session, and does not end the relay */
#include <uthash.h>

#include "dock.h"
#include "member.h"
#include "plane.h"
#include "session.h"

struct entry_limits {
    struct session_limits session;
    uint64_t lifetime_ms, ticket_ms;
    size_t n_streams, n_tickets;
};

struct entry;
struct handover_session;

struct entry_host {
    struct ev_loop *loop;
    struct entry_limits limits;
    uint64_t n_unlisted;       /* events in states that do not know them */
    struct tallies holders[2]; /* by role - 1: how many sessions a name has a slot in */
    /* It is over: its port and its place are free. Free it, but not from inside. */
    void (*on_ended)(void *userdata, struct entry *entry, enum gt_code code);
    void *userdata;
};

struct entry {
    struct session session;
    struct entry_host *host;
    struct plane *plane;
    struct dock *dock; /* the plane's once started; only handed over in letters */
    ev_timer timer;
    struct {
        struct tally *holder;         /* whose it is, once it is somebody's */
        struct gt_list seat;          /* in the list of the member that is here */
    } places[2];                      /* by role - 1, as the slots of the session are */
    uint64_t n_streams, n_up, n_down; /* ended streams and their bytes */
    UT_hash_handle by_rid, by_serial;
    struct gt_list dead;
};

/* Takes *fd, the listener on @port, unless it returns NULL (no memory). Nothing listens yet. */
struct entry *entry_new(struct entry_host *host, const uint8_t rid[static GT_RID_SIZE],
                        uint64_t serial, struct plane *plane, uint16_t port, int *fd);
/* The same for a session of another image of the relay, but for its streams. */
struct entry *entry_adopt(struct entry_host *host, const struct handover_session *session,
                          struct plane *plane, int *fd);
/* Hands its dock to the plane. -ENOMEM. */
int entry_start(struct entry *entry) GT_MUST_CHECK;
/* One that was not started, or has ended. */
struct entry *entry_free(struct entry *entry);

/* It is as another image of the relay had it, and its dock started: its time goes on. */
void entry_go_on(struct entry *entry);

/* Who sits in this role's slot now, or NULL. */
struct member *entry_member(struct entry *entry, enum gt_role role);
/* A session that @member sits in, or NULL. */
struct entry *entry_of_member(const struct member *member);
/* Counts it among those of @name, if it is nobody's in that role yet. -ENOMEM. */
int entry_hold(struct entry *entry, enum gt_role role, const char *name) GT_MUST_CHECK;
/* How many sessions is this name one side of, here or away? */
size_t entry_n_held(const struct entry_host *host, enum gt_role role, const char *name);

/* What its members ask. @member sits in it, but for entry_register. */
void entry_register(struct entry *entry, struct member *member,
                    const struct gt_control_frame *frame);
void entry_open(struct entry *entry, struct member *member, uint32_t stream, uint32_t attempt);
/* Its operator says whether anybody uses this stream. */
void entry_spare(struct entry *entry, uint32_t stream, uint32_t attempt, bool is_spare);
void entry_stream_end(struct entry *entry, struct member *member,
                      const struct gt_control_frame *frame);
/* @code: what it said with it. */
void entry_bye(struct entry *entry, struct member *member, enum gt_code code);
/* The member's connection went away. */
void entry_lose(struct entry *entry, struct member *member);
/* The relay ends it. */
void entry_stop(struct entry *entry, enum gt_code code);
/* PAIRED and ENDED, from its plane. */
void entry_on_letter(struct entry *entry, const struct letter *letter);
void entry_show(const struct entry *entry);
