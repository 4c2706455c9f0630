/* SPDX-License-Identifier: ISC */
/*
 * Allocates the ports of sessions from the configured range. Pure: the caller opens the sockets and
 * reports ports that it cannot bind.
 *
 * A released port has a cool-down, so that late packets of its old session do not reach another
 * one; only the same session may have it back at once. If no other port is free, the port released
 * first is reused before its cool-down ends. A port that another program uses has a cool-down as
 * well, and is never reused early.
 */
#pragma once

#include "gotthard/base/bytes.h"
#include "gotthard/crypto/key.h"
#include "snapshot/saved-layout.h"

enum port_state { PORT_FREE, PORT_IN_USE };

struct port {
    enum port_state state;
    uint64_t free_at;              /* end of the cool-down, by gt_clock_ms */
    bool has_last_rid;             /* FREE: it was released by a session */
    uint8_t last_rid[GT_RID_SIZE]; /* that session */
};

struct ports {
    uint16_t from, to;
    uint64_t cooldown_ms;
    size_t cursor;      /* index at which the next search begins */
    struct port *slots; /* owned; one for each port of the range */
};

enum { PORTS_E_NONE = 1 }; /* no port of the range is free */

/* -ENOMEM. */
int ports_init(struct ports *ports, uint16_t from, uint16_t to, uint64_t cooldown_ms) GT_MUST_CHECK;
void ports_deinit(struct ports *ports);
/* Changes the range. Ports outside it are forgotten; sessions that use them keep them. -ENOMEM:
 * unchanged. */
int ports_change(struct ports *ports, uint16_t from, uint16_t to,
                 uint64_t cooldown_ms) GT_MUST_CHECK;

/* Allocates a port for session @rid: @hint (0: none) if it is free, or in the cool-down of this
 * session; else the next free one. E_NONE. */
int ports_acquire(struct ports *ports, uint16_t hint, const uint8_t rid[static GT_RID_SIZE],
                  uint64_t now, uint16_t *ret_port) GT_MUST_CHECK;
/* Session @rid has ended: starts the cool-down of @port. No effect outside the range. */
void ports_release(struct ports *ports, uint16_t port, const uint8_t rid[static GT_RID_SIZE],
                   uint64_t now);
/* Another program uses @port: skips it for a while. */
void ports_skip(struct ports *ports, uint16_t port, uint64_t now);
/* Marks @port as used by a session of the previous image. No effect outside the range. */
void ports_mark_in_use(struct ports *ports, uint16_t port);
size_t ports_n_in_use(const struct ports *ports);
size_t ports_n(const struct ports *ports);

/* --- snapshot --------------------------------------------------------------------------------- */

struct saved_ports {
    uint16_t cursor;
};

struct saved_cooldown {
    uint16_t port;
    uint64_t free_at;
    bool has_last_rid;
    uint8_t last_rid[GT_RID_SIZE];
};

extern const struct saved_layout ports_layout, ports_cooldown_layout;

/* Writes SAVED_PORTS and a SAVED_COOLDOWN for each free port with a history. */
void ports_save(const struct ports *ports, uint64_t now, struct gt_writer *writer);
void ports_restore(struct ports *ports, const struct saved_ports *saved);
/* No effect outside the range. */
void ports_restore_cooldown(struct ports *ports, const struct saved_cooldown *saved);
