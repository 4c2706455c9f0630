/* SPDX-License-Identifier: ISC */
/*
 * A session as its plane sees it: the listener on its own port, the tickets honoured there, and the
 * pairs they became. Made by the control thread, and from then on touched by the plane's alone.
 */
#pragma once

#include "listener.h"
#include "mailbox.h"
#include "ticket.h"

struct plane;

struct dock {
    struct plane *plane;
    uint64_t serial; /* of the session: how the control thread is told */
    char tag[9];
    int fd; /* the listener, until it starts */
    struct listener listener;
    struct gt_list tickets, pairs; /* tickets in the order of their expiry */
    ev_timer expiry;               /* of the first ticket */
    struct gt_list of_plane;
    struct letter farewell; /* UNDOCK, which must not fail for want of memory */
};

/* Takes *fd, unless it returns NULL (no memory). */
struct dock *dock_new(uint64_t serial, const char *tag, int *fd);
/* One that was not started, or has ended. */
struct dock *dock_free(struct dock *dock);

void dock_start(struct dock *dock, struct plane *plane);
/* Ends everything in it and gives its listener's descriptor back to the budget. Whoever called may
 * still be inside its listener, so the plane frees it at the end of the turn. */
void dock_end(struct dock *dock);
void dock_honour(struct dock *dock, const struct gt_ticket *given, uint64_t expires_at);
/* What another image of the relay had here: a pair without sides yet, and a ticket that may be half
 * used, by @pair. NULL, -ENOMEM. */
struct pair *dock_new_pair(struct dock *dock, uint32_t stream, uint32_t attempt);
int dock_adopt_ticket(struct dock *dock, const struct gt_ticket *given, uint64_t expires_at,
                      enum ticket_state state, struct pair *pair) GT_MUST_CHECK;
/* Ends the tickets and pairs of @stream up to @attempt. */
void dock_cancel(struct dock *dock, uint32_t stream, uint32_t attempt);
/* Does a JOIN at @dock's port carry a ticket that is good? Spends nothing. */
bool dock_vouch(struct plane *plane, const uint8_t *bytes, const struct dock *dock);
/* A stranger said a JOIN (at @dock's port, or NULL: at the main one): seated, or refused. */
void dock_join(struct plane *plane, struct stranger *stranger);
