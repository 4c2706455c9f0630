/* SPDX-License-Identifier: ISC */
/* The encoding of events, and both ends of their pipe; see the header. */
#include "worker-events.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "gotthard/base/clock.h"
#include "gotthard/base/fields.h"
#include "gotthard/base/log.h"

#define SUFFIX  ".events"
#define PAUSE_S 1.

_Static_assert(WORKER_EVENT_SIZE <= PIPE_BUF, "an event is written whole");
_Static_assert(sizeof(struct worker_event) <= WORKER_EVENT_SIZE, "each event fits");

/* --- encoding: these fields, then zeros ------------------------------------------------------- */

static const struct gt_field fields[] = {
    GT_FIELD_U8(struct worker_event, kind),       GT_FIELD_U32(struct worker_event, stream),
    GT_FIELD_U32(struct worker_event, n_streams), GT_FIELD_U64(struct worker_event, n_up),
    GT_FIELD_U64(struct worker_event, n_down),    GT_FIELD_U32(struct worker_event, seconds),
    GT_FIELD_U32(struct worker_event, n_lost),    GT_FIELD_STRING(struct worker_event, service),
    GT_FIELD_STRING(struct worker_event, target), GT_FIELD_STRING(struct worker_event, source),
    GT_FIELD_STRING(struct worker_event, why),
};

void worker_event_encode(const struct worker_event *event, uint8_t ret[static WORKER_EVENT_SIZE])
{
    struct gt_writer w = gt_writer(ret, WORKER_EVENT_SIZE);

    memset(ret, 0, WORKER_EVENT_SIZE);
    gt_fields_write(&w, fields, GT_ARRAY_SIZE(fields), event);
}

bool worker_event_decode(const uint8_t bytes[static WORKER_EVENT_SIZE], struct worker_event *ret)
{
    struct gt_reader reader = gt_reader(bytes, WORKER_EVENT_SIZE);
    struct worker_event event = {0};

    gt_fields_read(&reader, fields, GT_ARRAY_SIZE(fields), &event);
    while (!reader.failed && !gt_reader_is_done(&reader))
        if (gt_read_u8(&reader) != 0)
            return false;
    if (reader.failed || event.kind > WORKER_SESSION_ENDED)
        return false;
    *ret = event;
    return true;
}

/* --- the worker's end ------------------------------------------------------------------------- */

void worker_events_init(struct worker_events *events)
{
    bool is_given = fcntl(WORKER_EVENTS_FD, F_GETFD) >= 0;

    *events = (struct worker_events){.fd = is_given ? WORKER_EVENTS_FD : -1};
    if (is_given)
        (void)fcntl(events->fd, F_SETFL, O_NONBLOCK);
}

void worker_events_deinit(struct worker_events *events)
{
    gt_close(&events->fd);
}

/* A pipe is writable as long as one of its pages is free. The rest of the last page, which is left
 * then, is for the last event. */
static bool has_room(int fd, enum worker_event_kind kind)
{
    struct pollfd writable = {.fd = fd, .events = POLLOUT};

    return kind == WORKER_SESSION_ENDED || (poll(&writable, 1, 0) == 1 && writable.revents);
}

void worker_events_send(struct worker_events *events, const struct worker_event *event)
{
    struct worker_event sent = *event;
    uint8_t bytes[WORKER_EVENT_SIZE];

    if (events->fd < 0)
        return;
    if (!has_room(events->fd, (enum worker_event_kind)event->kind)) {
        events->n_lost += events->n_lost < UINT32_MAX;
        return;
    }
    sent.n_lost = events->n_lost;
    worker_event_encode(&sent, bytes);
    if (write(events->fd, bytes, sizeof(bytes)) == (ssize_t)sizeof(bytes))
        events->n_lost = 0;
    else if (errno == EPIPE)
        gt_close(&events->fd); /* the listener has exited, and there is no FIFO */
    else
        events->n_lost += events->n_lost < UINT32_MAX;
}

/* --- the listener's end ----------------------------------------------------------------------- */

/* Returns false if nothing more is to be read now. */
static bool read_event(struct event_pipe *pipe)
{
    uint8_t bytes[WORKER_EVENT_SIZE];
    struct worker_event event;
    ssize_t n = read(pipe->fd, bytes, sizeof(bytes));

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (n != (ssize_t)sizeof(bytes) || !worker_event_decode(bytes, &event)) {
        event_pipe_close(pipe); /* the end, or no worker any more: nothing else is read from it */
        return false;
    }
    pipe->on_event(pipe->userdata, &event);
    return true;
}

static void event_pipe_on_readable(struct ev_loop *loop, ev_io *watcher, int revents)
{
    struct event_pipe *pipe = watcher->data;

    while (gt_token_bucket_level(&pipe->rate, gt_clock_ms()) > 0) {
        if (!read_event(pipe))
            return;
        gt_token_bucket_drain(&pipe->rate, 1, gt_clock_ms());
    }
    ev_io_stop(loop, watcher);
    ev_timer_set(&pipe->pause, PAUSE_S, 0.);
    ev_timer_start(loop, &pipe->pause);
}

static void event_pipe_on_pause_over(struct ev_loop *loop, ev_timer *watcher, int revents)
{
    struct event_pipe *pipe = watcher->data;

    ev_io_start(loop, &pipe->readable);
}

void event_pipe_init(struct event_pipe *pipe, struct ev_loop *loop, event_pipe_fn on_event,
                     void *userdata)
{
    *pipe = (struct event_pipe){.loop = loop, .fd = -1, .on_event = on_event, .userdata = userdata};
    gt_token_bucket_init(&pipe->rate, WORKER_EVENTS_PER_S, WORKER_EVENTS_BURST, gt_clock_ms());
    ev_io_init(&pipe->readable, event_pipe_on_readable, -1, EV_READ);
    ev_timer_init(&pipe->pause, event_pipe_on_pause_over, PAUSE_S, 0.);
    pipe->readable.data = pipe->pause.data = pipe;
}

static void event_pipe_watch(struct event_pipe *pipe, int fd)
{
    pipe->fd = fd;
    ev_io_set(&pipe->readable, fd, EV_READ);
    ev_io_start(pipe->loop, &pipe->readable);
}

static void make_path(const char *session_file_path, char ret[static PATH_MAX])
{
    snprintf(ret, PATH_MAX, "%s" SUFFIX, session_file_path);
}

/* Returns the read end, or a negative errno: also if it is no FIFO of this user. */
static int open_fifo(const char *path)
{
    struct stat status;
    gt_cleanup(gt_close) int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW);

    if (fd < 0 || fstat(fd, &status) < 0)
        return -errno;
    if (!S_ISFIFO(status.st_mode) || status.st_uid != geteuid())
        return -EINVAL;
    return gt_steal_fd(&fd);
}

/* The worker can read its end as well: it gets no error while there is no listener. */
static int make_fifo(const char *session_file_path, int ret_ends[static 2])
{
    char path[PATH_MAX];

    make_path(session_file_path, path);
    if (mkfifo(path, 0600) < 0)
        return -errno;
    ret_ends[0] = open_fifo(path);
    ret_ends[1] =
        ret_ends[0] < 0 ? ret_ends[0] : open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW);
    if (ret_ends[1] >= 0)
        return 0;
    int r = ret_ends[0] < 0 ? ret_ends[0] : -errno;
    gt_close(&ret_ends[0]);
    unlink(path);
    return r;
}

int event_pipe_open(struct event_pipe *pipe, const char *session_file_path)
{
    int ends[2];
    int r = session_file_path                         ? make_fifo(session_file_path, ends)
            : pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0 ? -errno
                                                      : 0;

    if (r)
        return r;
    event_pipe_watch(pipe, ends[0]);
    return ends[1];
}

void event_pipe_reopen(struct event_pipe *pipe, const char *session_file_path)
{
    char path[PATH_MAX];

    make_path(session_file_path, path);
    int fd = open_fifo(path);
    if (fd >= 0)
        event_pipe_watch(pipe, fd);
}

/* A pipe has fewer events than the burst. */
void event_pipe_finish(struct event_pipe *pipe)
{
    while (pipe->fd >= 0 && read_event(pipe))
        ;
    event_pipe_close(pipe);
}

void event_pipe_close(struct event_pipe *pipe)
{
    if (!pipe->loop)
        return;
    ev_io_stop(pipe->loop, &pipe->readable);
    ev_timer_stop(pipe->loop, &pipe->pause);
    gt_close(&pipe->fd);
}

void event_pipe_unlink(const char *session_file_path)
{
    char path[PATH_MAX];

    make_path(session_file_path, path);
    unlink(path);
}
