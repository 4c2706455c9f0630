/* SPDX-License-Identifier: ISC */
/*
 * The events of a worker for the audit: its streams, and the end of its session. They go to the
 * listener over a pipe of their own, or a FIFO beside the session file, which outlives the
 * listener: events wait in it until the next one reads them.
 *
 * A worker handles the bytes of its operator, so the listener checks everything that it sends, and
 * names the session by itself. The listener reads only as many events as the audit may take; then
 * the pipe is full, and the worker counts what it cannot send.
 */
#pragma once

#include <ev.h>

#include "gotthard/base/token-bucket.h"
#include "gotthard/net/sock.h"
#include "gotthard/signaling/exchange.h"

#define WORKER_EVENTS_FD 7 /* the worker's end of the pipe */

/* Of one session: a browser opens many connections at once, and few in the long run. */
#define WORKER_EVENTS_BURST 200
#define WORKER_EVENTS_PER_S 4

enum worker_event_kind {
    WORKER_STREAM_DIALLED, /* a stream has reached its target */
    WORKER_STREAM_ENDED,   /* a stream has ended, or was refused */
    WORKER_SESSION_ENDED,  /* the session has ended; ->n_streams and bytes are those of all streams
                            */
};

struct worker_event {
    uint8_t kind; /* enum worker_event_kind */
    uint32_t stream, n_streams;
    uint64_t n_up, n_down; /* bytes */
    uint32_t seconds;
    uint32_t n_lost; /* events before this one, which could not be sent */
    char service[GT_SERVICE_MAX + 1];
    char target[GT_HOST_MAX + 16]; /* "": none */
    char source[GT_ADDR_TEXT];     /* "": it was not connected */
    char why[160];
};

/* The encoding has always this many bytes, fewer than PIPE_BUF: it is written and read whole. */
#define WORKER_EVENT_SIZE 1024
void worker_event_encode(const struct worker_event *event, uint8_t ret[static WORKER_EVENT_SIZE]);
/* Returns false for anything but exactly one encoded event of a known kind. */
bool worker_event_decode(const uint8_t bytes[static WORKER_EVENT_SIZE], struct worker_event *ret);

/* --- the worker's end --- */

struct worker_events {
    int fd; /* owned; -1: there is no audit */
    uint32_t n_lost;
};

/* Takes WORKER_EVENTS_FD, if this process has it. */
void worker_events_init(struct worker_events *events);
void worker_events_deinit(struct worker_events *events);
/* Sends @event with the number of those that were lost before, or counts it. Never blocks. */
void worker_events_send(struct worker_events *events, const struct worker_event *event);

/* --- the listener's end --- */

typedef void (*event_pipe_fn)(void *userdata, const struct worker_event *event);

struct event_pipe {
    struct ev_loop *loop;
    int fd; /* owned; the read end; -1: there is none */
    ev_io readable;
    ev_timer pause;
    struct gt_token_bucket rate;
    event_pipe_fn on_event;
    void *userdata;
};

void event_pipe_init(struct event_pipe *pipe, struct ev_loop *loop, event_pipe_fn on_event,
                     void *userdata);
/* Opens a pipe for a new worker, for a session file at @session_file_path a FIFO beside it (NULL:
 * no file). Returns the worker's end, which the caller closes when the worker has it, or a negative
 * errno. Events are read from now on. */
int event_pipe_open(struct event_pipe *pipe, const char *session_file_path) GT_MUST_CHECK;
/* Opens the FIFO of an earlier listener, if there is one. */
void event_pipe_reopen(struct event_pipe *pipe, const char *session_file_path);
/* The worker has exited: reads all that it has sent, and closes the pipe. */
void event_pipe_finish(struct event_pipe *pipe);
/* Closes the pipe and leaves its FIFO. May be called again. */
void event_pipe_close(struct event_pipe *pipe);
/* Removes the FIFO of a session file. */
void event_pipe_unlink(const char *session_file_path);
