/* SPDX-License-Identifier: ISC */
/*
 * How the running relay becomes the installed one, without ending: first the installed program is
 * started beside it to rehearse with a copy of the state, and only if it finds nothing to object to
 * is it executed in place of this one, in the same process.
 *
 * Whatever goes wrong before that last call leaves the relay as it was, and nothing here waits.
 */
#pragma once

#include <ev.h>
#include <sys/stat.h>

#include "sealed.h"

/* Told by one image to the next, with the number of a descriptor; nobody else has a use for them.
 */
#define UPGRADE_REHEARSE  "--rehearse"
#define UPGRADE_TAKE_OVER "--take-over"

enum upgrade_state {
    UPGRADE_IDLE,
    UPGRADE_REHEARSING, /* the child has 10 s */
    UPGRADE_CANCELLED,  /* it was killed, and has not ended yet */
};

struct upgrade {
    enum upgrade_state state;
    struct ev_loop *loop; /* the default one: it waits for a child */
    char *path;           /* of the program; NULL: it cannot be known */
    char *const *argv;    /* borrows: as for a first start */
    struct stat seen;     /* the program that rehearses */
    struct sealed sealed; /* what it rehearses with */
    ev_child child;
    ev_timer deadline;
    sealed_write_fn write; /* the state as it is now */
    void (*on_rehearsed)(void *userdata);
    void (*on_refused)(void *userdata, const char *why);
    void *userdata;
};

/* The rest of the struct is the caller's to set. Borrows @argv. */
void upgrade_init(struct upgrade *upgrade, struct ev_loop *loop, char *const *argv);
void upgrade_deinit(struct upgrade *upgrade);

/* Begins; one of the callbacks follows, from the loop or from here. Only when IDLE. */
void upgrade_rehearse(struct upgrade *upgrade);
/* No callback follows. */
void upgrade_cancel(struct upgrade *upgrade);
/* Returns only if it failed, and says why (static); all is as before then. */
const char *upgrade_execute(struct upgrade *upgrade);
