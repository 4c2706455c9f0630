/* SPDX-License-Identifier: ISC */
/*
 * Which ports of the configured range are free. Pure: the caller opens the sockets and tells what
 * came of it. A port that was given back, or that another program holds, rests for a while before
 * it is given out again, so that late packets of its old session meet nobody; only that session
 * itself, should it come back, need not wait. When no other is left, the one given back first goes
 * out before its time.
 */
#pragma once

#include "gotthard/key.h"

enum port_state { PORT_FREE, PORT_TAKEN };

struct port {
    enum port_state state;
    uint64_t rests_until;
    bool is_known;           /* whose it was: */
    uint8_t of[GT_RID_SIZE]; /* while it rests */
};

struct ports {
    uint16_t from, to;
    uint64_t rest_ms;
    size_t cursor; /* where the search for the next one begins */
    struct port *slots;
};

enum { PORTS_E_NONE = 1 }; /* the range is used up */

int ports_init(struct ports *ports, uint16_t from, uint16_t to, uint64_t rest_ms) GT_MUST_CHECK;
void ports_deinit(struct ports *ports);
/* A new range. Ports outside it are forgotten, their sessions keep them; unchanged on failure. */
int ports_change(struct ports *ports, uint16_t from, uint16_t to, uint64_t rest_ms) GT_MUST_CHECK;

/* For session @rid: @hint if it is free, or rests after this very session (0: no wish), else the
 * next one round the range. E_NONE. */
int ports_take(struct ports *ports, uint16_t hint, const uint8_t rid[static GT_RID_SIZE],
               uint64_t now, uint16_t *ret_port) GT_MUST_CHECK;
/* Session @rid is over. */
void ports_give_back(struct ports *ports, uint16_t port, const uint8_t rid[static GT_RID_SIZE],
                     uint64_t now);
/* Another program turned out to hold it: not tried again for a while. */
void ports_skip(struct ports *ports, uint16_t port, uint64_t now);
/* As another image of the relay had it; a port outside the range is no matter. */
void ports_adopt(struct ports *ports, uint16_t port, const struct port *slot);
size_t ports_n_taken(const struct ports *ports);
size_t ports_n(const struct ports *ports);
