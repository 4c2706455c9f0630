/* SPDX-License-Identifier: ISC */
/*
 * The listening sockets of the main port: opened here, passed by the service manager
 * (sd_listen_fds(3)), or inherited from the relay's previous image in an upgrade.
 */
#pragma once

#include "gotthard/net/acceptor.h"
#include "snapshot/saved-layout.h"

#define MAIN_LISTENER_MAX 8 /* sockets */

struct main_listener { /* zero-initialize */
    struct gt_acceptor acceptors[MAIN_LISTENER_MAX];
    size_t n_acceptors;
    struct gt_reserve_fd reserve;
};

enum { MAIN_LISTENER_E_LISTEN = 1 }; /* no socket could be opened or added; logged if opened here */

/*
 * Accepts on @bind ("*": all addresses) and @port, or on the sockets of the service manager. On
 * success *ret_bind is the address, without a port, for the listeners of session ports. E_LISTEN.
 */
int main_listener_open(struct main_listener *main_listener, struct ev_loop *loop, const char *bind,
                       uint16_t port, gt_acceptor_fn on_accept, void *userdata,
                       struct gt_addr *ret_bind) GT_MUST_CHECK;
/* Returns the port of the first socket; @fallback without a socket or if its address is unknown. */
uint16_t main_listener_port(const struct main_listener *main_listener, uint16_t fallback);
/* Stops accepting for 100 ms; connections wait in the backlog. */
void main_listener_pause(struct main_listener *main_listener);
/* Closes all sockets. May be called twice, and on a zeroed struct. */
void main_listener_close(struct main_listener *main_listener);

/* --- snapshot --------------------------------------------------------------------------------- */

struct saved_main_listener {
    int fd;
};

extern const struct saved_layout main_listener_layout;

/* Writes a record for each socket. */
void main_listener_save(const struct main_listener *main_listener, struct gt_writer *writer);
/* Accepts on a socket of the previous image, and takes it. E_LISTEN: there are MAIN_LISTENER_MAX
 * already. */
int main_listener_restore(struct main_listener *main_listener, struct ev_loop *loop,
                          const struct saved_main_listener *saved, gt_acceptor_fn on_accept,
                          void *userdata) GT_MUST_CHECK;
