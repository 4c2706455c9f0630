/* SPDX-License-Identifier: ISC */
/*
 * One session of the registry: here the decisions of session.c and streams.c turn into frames,
 * letters, ports and timers. It lives in the control thread; its dock and pairs live in a plane.
 */
#pragma once

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "dock.h"
#include "member.h"
#include "plane.h"
#include "session.h"

struct registry;

struct entry {
    struct session session;
    struct registry *registry;
    struct plane *plane;
    struct dock *dock; /* the plane's; only handed over in letters */
    ev_timer timer;
    uint64_t n_streams, n_up, n_down; /* ended streams and their bytes */
    UT_hash_handle by_rid, by_serial;
    struct gt_list dead; /* of the registry, once it has ended */
};

/* In the registry's tables from now on. Takes *fd, a listener at @port, once it succeeds; NULL when
 * there is no memory. */
struct entry *entry_new(struct registry *registry, struct plane *plane, const uint8_t *rid,
                        uint16_t port, int *fd);
/* One that has ended. */
struct entry *entry_free(struct entry *entry);
/* The relay ends it. */
void entry_stop(struct entry *entry, enum gt_code code);

/* Who is here in that role, or NULL. */
struct member *entry_member(struct entry *entry, enum gt_role role);

/* What members ask: RENDEZVOUS of any, and from those that are in it OPEN, STREAM_END, BYE. */
void entry_register(struct entry *entry, struct member *member,
                    const struct gt_control_frame *frame);
void entry_open(struct entry *entry, struct member *member, uint32_t stream, uint32_t attempt);
void entry_tell_end(struct entry *entry, const struct member *member,
                    const struct gt_control_frame *frame);
void entry_bye(struct entry *entry, struct member *member);
/* Its control connection is gone. */
void entry_lose(struct entry *entry, struct member *member);

/* PAIRED or ENDED. */
void entry_on_letter(struct entry *entry, const struct letter *letter);
/* One log line. */
void entry_show(const struct entry *entry);
