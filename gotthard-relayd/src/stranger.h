/* SPDX-License-Identifier: ISC */
/*
 * A connection that has not yet shown that it knows the protocol. On a session's port it has to say
 * a whole JOIN; on the main port its first byte tells whether it will, or whether it speaks TLS and
 * is handed on. Whoever says anything else, or nothing, or too slowly, is heard for up to 64 bytes
 * or a few seconds and then closed: never a byte back.
 *
 * It needs no memory beyond itself and waits for nobody: its whole decides what a JOIN is worth.
 */
#pragma once

#include <ev.h>

#include "gotthard/join.h"
#include "gotthard/sock.h"
#include "now.h"
#include "quota.h"

enum stranger_state {
    STRANGER_NEW,      /* main port: the first byte decides, and TLS waits for its whole hello */
    STRANGER_JOINING,  /* bytes of a JOIN are missing */
    STRANGER_DRAINING, /* a wrong one, being heard to the end */
    STRANGER_DONE,     /* handed on or closed: to be buried */
};

struct stranger;

struct stranger_host {
    struct ev_loop *loop;
    int epoll_fd; /* of the waiting ones; libev cannot let go of a descriptor another thread takes
                   */
    ev_io io;
    struct quota *quota;
    struct gt_list living, dead;
    uint64_t first_ms; /* for the first byte (main port) */
    uint64_t join_ms;  /* for the whole of a JOIN */
    /* The whole JOIN is in ->bytes: stranger_release it, or stranger_refuse it. True: it went to
     * another thread and is not to be touched any more. */
    bool (*on_join)(void *userdata, struct stranger *stranger);
    /* A whole record of TLS, with a hello in it, is there; nothing was read. NULL on ports that
     * know no TLS. */
    void (*on_tls)(void *userdata, struct stranger *stranger);
    /* Do these 64 bytes, which came to @dock's port, prove enough by themselves? Asked only about
     * those that the quota would turn away. NULL where nothing can. */
    bool (*is_vouched)(void *userdata, const uint8_t *bytes, void *dock);
    void *userdata;
};

struct stranger {
    enum stranger_state state;
    struct stranger_host *host;
    void *dock; /* borrows: whose port it came to, NULL at the main one */
    int fd;
    struct quota_charge charge;
    struct gt_addr addr;
    uint64_t born_at, deadline;
    ev_timer timer; /* active: it is waiting, and watched */
    bool is_ended;  /* by its peer: no more will come than what is there */
    size_t n_seen;  /* of its hello, when that was last looked at */
    size_t n_bytes;
    uint8_t bytes[GT_JOIN_SIZE];
    struct gt_list of_host;
};

int stranger_host_init(struct stranger_host *host, struct ev_loop *loop,
                       struct quota *quota) GT_MUST_CHECK;
/* Closes all of them. */
void stranger_host_deinit(struct stranger_host *host);
/* Frees the dead; once per turn of the loop, and not from inside a callback. */
void stranger_host_bury(struct stranger_host *host);

/*
 * A connection was accepted: takes @fd, admits it or closes it at once, and reads what is there. A
 * good JOIN that came with it is admitted whatever its source has done: a ticket is a better proof
 * than an address, and a tunnel must not suffer from what a neighbour behind the same NAT does.
 */
void stranger_welcome(struct stranger_host *host, int fd, const struct gt_addr *addr, void *dock);
/* Moves it, in any state but DONE, from its host's thread to nowhere... */
void stranger_detach(struct stranger *stranger);
/* ...and from there to another's, where its JOIN is looked at. */
void stranger_attach(struct stranger *stranger, struct stranger_host *host);
/* It was somebody after all: gives its descriptor and its charge away. */
int stranger_release(struct stranger *stranger, struct quota_charge *ret_charge) GT_MUST_CHECK;
/* Not good enough: heard to the end, penalised and closed. */
void stranger_refuse(struct stranger *stranger);
/* Honest, but too late for what it came for: closed. */
void stranger_dismiss(struct stranger *stranger);
/* Closes those of one dock. */
void stranger_close_of(struct stranger_host *host, const void *dock);
