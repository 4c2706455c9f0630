/* SPDX-License-Identifier: ISC */
/*
 * A local endpoint: a socket, or two descriptors for reading and writing, with a watcher for each
 * direction. It reads, writes, half-closes and closes, and reports errno. It knows nothing about
 * streams: the owner decides when to read, what to write and how the connection ends (pump.h,
 * channel.h).
 *
 * It is a TCP socket, a Unix socket, or a pair such as standard input and output: pipes, terminals,
 * files, sockets. Only TCP has a reset. Over a Unix socket the application sees an end of file in
 * its place, or ECONNRESET if bytes that it sent were not read; over a pair, an end of file. A pair
 * whose output is no longer read counts as reset, since a program in its place would end by
 * SIGPIPE. Another kind of endpoint (UDP) needs these functions and nothing else.
 */
#pragma once

#include <ev.h>
#include <sys/uio.h>

#include "gotthard/base/base.h"
#include "gotthard/tunnel/silence.h"

struct gt_endpoint_fds { /* a connected socket is both of them; none: -1 */
    int in, out;
    bool is_prepared; /* a socket that was accepted from a prepared listener */
};

static inline struct gt_endpoint_fds gt_endpoint_fds(int socket)
{
    return (struct gt_endpoint_fds){.in = socket, .out = socket};
}
/* Sets the options of a local endpoint on a TCP socket: a connected one, or a listening one, from
 * which accepted sockets inherit them. @vanished_s as in gt_endpoint_init. */
void gt_endpoint_prepare(int socket, double vanished_s);
/* @socket was accepted from such a listener, and its options were not changed. */
static inline struct gt_endpoint_fds gt_endpoint_fds_accepted(int socket)
{
    return (struct gt_endpoint_fds){.in = socket, .out = socket, .is_prepared = true};
}

/* Closes them, a socket of TCP with RST. Takes -1. */
void gt_endpoint_fds_reset(struct gt_endpoint_fds fds);

struct gt_endpoint {
    struct ev_loop *loop;
    int in, out;             /* owned; -1 before gt_endpoint_open and after gt_endpoint_close */
    int in_flags, out_flags; /* of a pair, as fcntl(2) has them: restored at the end */
    bool is_input_over;      /* of a pair: gt_endpoint_stop_reading was called */
    size_t n_input_left;     /* ... and so many bytes can still be read */
    ev_io reader, writer;
    struct gt_silence silence;
    bool is_vanished; /* the machine of the application no longer answers */
    void (*on_event)(void *userdata, int revents);
    void *userdata;
};

enum {
    GT_ENDPOINT_E_AGAIN = 1, /* EAGAIN or EINTR: try again when the descriptor is ready */
    GT_ENDPOINT_E_EOF,       /* read: the local application sends no more */
    GT_ENDPOINT_E_BROKEN,    /* any other error; errno has the reason */
};

/* The application's machine has answered nothing for the limit, although data is in flight. While
 * nothing is in flight, a read returns E_BROKEN instead. In both cases ->is_vanished is set. */
#define GT_ENDPOINT_VANISHED EV_CUSTOM

/* @vanished_s: the limit, as in gt_silence_init. @on_event: the endpoint is readable (EV_READ),
 * writable again (EV_WRITE), or GT_ENDPOINT_VANISHED. It may close the endpoint, and may free the
 * memory around it. */
void gt_endpoint_init(struct gt_endpoint *endpoint, struct ev_loop *loop, double vanished_s,
                      void (*on_event)(void *userdata, int revents), void *userdata);
/* Takes @fds. A socket is non-blocking; a pair is made non-blocking until it is closed, because
 * other processes may use it afterwards. No watcher is started. */
void gt_endpoint_open(struct gt_endpoint *endpoint, struct gt_endpoint_fds fds);
/* Stops the watchers and closes the descriptors, if they are open. @is_orderly: the application
 * sees an end of file; otherwise it sees a reset (RFC 9293, section 3.10.7.4: RST). */
void gt_endpoint_close(struct gt_endpoint *endpoint, bool is_orderly);
static inline bool gt_endpoint_is_open(const struct gt_endpoint *endpoint)
{
    return endpoint->in >= 0;
}

/* Starts or stops the watcher of one direction. */
void gt_endpoint_watch_read(struct gt_endpoint *endpoint, bool is_wanted);
void gt_endpoint_watch_write(struct gt_endpoint *endpoint, bool is_wanted);
static inline bool gt_endpoint_is_read_watched(const struct gt_endpoint *endpoint)
{
    return ev_is_active(&endpoint->reader);
}
static inline bool gt_endpoint_is_write_watched(const struct gt_endpoint *endpoint)
{
    return ev_is_active(&endpoint->writer);
}

/* One readv(), sendmsg() or writev() on an open endpoint. 0: @ret_n bytes were moved (at least 1 by
 * a read); E_AGAIN, E_EOF, E_BROKEN. */
int gt_endpoint_read(struct gt_endpoint *endpoint, const struct iovec *room, int n_room,
                     size_t *ret_n) GT_MUST_CHECK;
int gt_endpoint_write(struct gt_endpoint *endpoint, const struct iovec *view, int n_view,
                      size_t *ret_n) GT_MUST_CHECK;
/* Returns the number of bytes that were written and that the application's kernel has not
 * acknowledged. 0 if the connection was reset, or if the kind of endpoint does not report it. */
size_t gt_endpoint_unsent(const struct gt_endpoint *endpoint);
/* Returns the positive errno of a reset that no call has reported yet, EPIPE if the application has
 * closed a Unix socket without one, or 0. Its unread bytes can still be read, and then an end of
 * file. */
int gt_endpoint_take_error(struct gt_endpoint *endpoint);
/* After the bytes that the kernel has, a read returns an end of file. If the input of a pair is
 * neither a pipe nor a socket, at once: the text that waits in a terminal belongs to the shell. */
void gt_endpoint_stop_reading(struct gt_endpoint *endpoint);
/* Sends an end of file to the application and keeps reading. E_BROKEN. */
int gt_endpoint_half_close(struct gt_endpoint *endpoint) GT_MUST_CHECK;
