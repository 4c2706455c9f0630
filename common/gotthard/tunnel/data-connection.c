/* SPDX-License-Identifier: ISC */
/*
 * The life of one relay connection. One table row per state has the handlers of the watched
 * directions, the deadline, and the meaning of expiry. Records are batched: they gather in the
 * output buffer until it is full or flushed. Must never report a failure from inside a call, which
 * would change the state of the owner in the middle of its work.
 */
#include "gotthard/tunnel/data-connection.h"

#include <sys/socket.h>

#include "gotthard/base/clock.h"
#include "gotthard/base/log.h"
#include "gotthard/net/route.h"
#include "gotthard/tunnel/data-dial.h"
#include "gotthard/tunnel/liveness.h"

enum connection_state {
    CONNECTION_DIALING,
    CONNECTION_READY,
    CONNECTION_WRITE_FAILED, /* the peer accepts no more data; its last data is still read */
    CONNECTION_CLOSING,      /* close_notify is sent; waiting for the peer's */
    CONNECTION_GONE,         /* everything is closed; on_gone is due */
};

struct gt_data_connection {
    struct ev_loop *loop;
    enum connection_state state;
    uint32_t stream, attempt;
    int unsent_max;
    const struct gt_data_connection_events *events;
    void *userdata;
    bool is_closed_by_peer; /* its close_notify was received */

    struct gt_addr relay;
    struct gt_data_dial *dial; /* while DIALING */
    int fd;                    /* from READY on */
    struct gt_tls *tls;
    ev_io reader, writer;
    ev_timer deadline;
    ev_timer again; /* more is buffered than one iteration may handle */
    struct gt_liveness liveness;
};

static const struct connection_state_row {
    const char *name;
    ev_tstamp deadline_s;                                       /* < 0: none of its own */
    void (*on_readable)(struct gt_data_connection *connection); /* NULL: not watched */
    void (*on_writable)(struct gt_data_connection *connection); /* watched while output waits */
    void (*on_deadline)(struct gt_data_connection *connection);
} states[CONNECTION_GONE + 1]; /* defined below its handlers */

static void watch(struct ev_loop *loop, ev_io *watcher, bool is_wanted)
{
    if (is_wanted)
        ev_io_start(loop, watcher);
    else
        ev_io_stop(loop, watcher);
}

static void connection_arm(struct gt_data_connection *connection, ev_tstamp after)
{
    ev_timer_stop(connection->loop, &connection->deadline);
    if (after < 0)
        return;
    ev_timer_set(&connection->deadline, after, 0);
    ev_timer_start(connection->loop, &connection->deadline);
}

static void connection_enter(struct gt_data_connection *connection, enum connection_state state)
{
    gt_debug("stream=%u attempt=%u data connection %s -> %s", connection->stream,
             connection->attempt, states[connection->state].name, states[state].name);
    connection->state = state;
    watch(connection->loop, &connection->reader, states[state].on_readable);
    ev_io_stop(connection->loop, &connection->writer);
    connection_arm(connection, states[state].deadline_s);
}

/* Closes everything; on_gone follows from a later loop iteration. */
static void connection_lose(struct gt_data_connection *connection, const char *why)
{
    if (connection->state == CONNECTION_GONE)
        return;
    gt_debug("stream=%u attempt=%u data connection lost reason=\"%s\"", connection->stream,
             connection->attempt, why); /* @why may live inside tls */
    connection_enter(connection, CONNECTION_GONE);
    ev_timer_stop(connection->loop, &connection->again);
    connection->dial = gt_data_dial_free(connection->dial);
    connection->tls = gt_tls_free(connection->tls);
    gt_close(&connection->fd);
}

static void connection_notify_gone(struct gt_data_connection *connection)
{
    connection->events->on_gone(connection->userdata, connection->is_closed_by_peer);
}

/* --- records ---------------------------------------------------------------------------------- */

static bool is_open_for_reading(const struct gt_data_connection *connection)
{
    return connection->state == CONNECTION_READY || connection->state == CONNECTION_WRITE_FAILED;
}

/* The peer sent close_notify. It gets ours (best effort), which confirms that all was received. */
static void connection_closed_by_peer(struct gt_data_connection *connection)
{
    connection->is_closed_by_peer = true;
    if (connection->state != CONNECTION_CLOSING)
        gt_tls_close(connection->tls);
    connection_lose(connection, "closed by the peer");
}

bool gt_data_connection_next_record(struct gt_data_connection *connection, struct gt_span *ret)
{
    if (!is_open_for_reading(connection) || gt_tls_open(connection->tls, ret))
        return false;
    gt_liveness_received(&connection->liveness, gt_clock());
    return true;
}

bool gt_data_connection_fill(struct gt_data_connection *connection, size_t n_max)
{
    if (!is_open_for_reading(connection))
        return false;
    int r = gt_tls_fill(connection->tls, n_max);
    if (r == GT_TLS_E_CLOSED)
        connection_closed_by_peer(connection);
    else if (r == GT_TLS_E_BROKEN)
        connection_lose(connection, gt_tls_why(connection->tls));
    return r == 0;
}

static void connection_watch_output(struct gt_data_connection *connection)
{
    watch(connection->loop, &connection->writer, gt_tls_wants_write(connection->tls));
}

void gt_data_connection_flush(struct gt_data_connection *connection)
{
    if (connection->state != CONNECTION_READY)
        return;
    if (gt_tls_flush(connection->tls) == GT_TLS_E_BROKEN)
        connection_enter(connection, CONNECTION_WRITE_FAILED);
    else
        connection_watch_output(connection);
}

size_t gt_data_connection_record_size(const struct gt_data_connection *connection)
{
    return gt_tls_record_size(connection->tls);
}

/* A full socket is waited for only after the output buffer was emptied. A batch of whole records
 * then fits, and no record that was built is ever rejected. */
bool gt_data_connection_make_room(struct gt_data_connection *connection)
{
    if (connection->state != CONNECTION_READY || ev_is_active(&connection->writer))
        return false;
    if (gt_tls_has_room(connection->tls, GT_DATA_CONNECTION_RECORD_MAX))
        return true;
    gt_data_connection_flush(connection);
    return connection->state == CONNECTION_READY && !ev_is_active(&connection->writer);
}

void gt_data_connection_write(struct gt_data_connection *connection, const struct gt_span *parts,
                              size_t n_parts)
{
    if (connection->state == CONNECTION_READY &&
        gt_tls_write_parts(connection->tls, parts, n_parts))
        connection_lose(connection, "a record was rejected");
}

static void connection_receive(struct gt_data_connection *connection)
{
    connection->events->on_readable(connection->userdata);
    if (connection->tls)
        gt_tls_release_input(connection->tls);
    if (connection->tls && gt_tls_has_pending(connection->tls))
        ev_timer_start(connection->loop, &connection->again);
    else
        ev_timer_stop(connection->loop, &connection->again);
}

static void connection_resume_writing(struct gt_data_connection *connection)
{
    gt_data_connection_flush(connection);
    if (gt_tls_has_pending(connection->tls)) /* reading waited for room as well */
        ev_timer_start(connection->loop, &connection->again);
    if (!ev_is_active(&connection->writer))
        connection->events->on_writable(connection->userdata);
}

static void connection_on_again(struct ev_loop *loop, ev_timer *watcher, int revents)
{
    struct gt_data_connection *connection = watcher->data;

    states[connection->state].on_readable(connection);
}

/* --- closing ---------------------------------------------------------------------------------- */

/* Once close_notify is sent completely, the peer sees our end of file. */
static void connection_finish_output(struct gt_data_connection *connection)
{
    if (!gt_tls_wants_write(connection->tls))
        shutdown(connection->fd, SHUT_WR);
    connection_watch_output(connection);
}

void gt_data_connection_close(struct gt_data_connection *connection)
{
    switch (connection->state) {
    case CONNECTION_READY:
        connection_enter(connection, CONNECTION_CLOSING);
        if (gt_tls_has_pending(connection->tls))
            ev_timer_start(connection->loop, &connection->again);
        gt_tls_close(connection->tls);
        connection_finish_output(connection);
        break;
    case CONNECTION_DIALING:
    case CONNECTION_WRITE_FAILED: connection_lose(connection, "closed"); break;
    case CONNECTION_CLOSING:
    case CONNECTION_GONE: break;
    }
}

static void connection_continue_closing(struct gt_data_connection *connection)
{
    if (gt_tls_flush(connection->tls) == GT_TLS_E_BROKEN)
        connection_lose(connection, "closed");
    else
        connection_finish_output(connection);
}

/* Input is read and dropped until the peer's close_notify. Closing the socket with unread input
 * would send a reset, which may overtake our last record. */
static void connection_discard(struct gt_data_connection *connection)
{
    uint8_t scrap[GT_DATA_CONNECTION_RECORD_MAX];
    size_t n = 0, total = 0;
    int r = 0;

    for (; r == 0 && total < GT_IOBUF_SIZE; total += n)
        r = gt_tls_read(connection->tls, scrap, sizeof(scrap), &n);
    gt_wipe(scrap, GT_MIN(total, sizeof(scrap)));
    if (r == 0)
        ev_timer_start(connection->loop, &connection->again);
    else
        ev_timer_stop(connection->loop, &connection->again);
    if (r == GT_TLS_E_CLOSED)
        connection_closed_by_peer(connection);
    else if (r == GT_TLS_E_BROKEN)
        connection_lose(connection, "closed");
}

static void connection_expire(struct gt_data_connection *connection)
{
    connection_lose(connection, connection->state == CONNECTION_CLOSING
                                    ? "the peer's close_notify did not arrive"
                                    : "the peer accepts no data");
}

/* --- heartbeat -------------------------------------------------------------------------------- */

/* The loop's own time is that of the start of its iteration, which would scatter the probes. */
static void connection_arm_heartbeat(struct gt_data_connection *connection)
{
    ev_tstamp after = gt_liveness_next(&connection->liveness, gt_clock());

    ev_now_update(connection->loop);
    connection_arm(connection, after);
}

/* After a pause of the whole process (a suspend), data that arrived meanwhile is still unread. So
 * the socket is read before the connection is given up. */
static void connection_on_heartbeat(struct gt_data_connection *connection)
{
    struct gt_liveness *liveness = &connection->liveness;

    if (gt_liveness_time_left(liveness, gt_clock()) <= 0)
        connection_receive(connection);
    if (connection->state != CONNECTION_READY)
        return;
    if (gt_liveness_time_left(liveness, gt_clock()) <= 0) {
        connection_lose(connection, "nothing received for too long");
        return;
    }
    bool is_quiet = gt_liveness_is_probe_due(liveness, gt_clock());
    if (is_quiet)
        gt_liveness_probed(liveness, gt_clock());
    connection_arm_heartbeat(connection);
    connection->events->on_heartbeat(connection->userdata, is_quiet);
}

/* Data that was in transit before the doubt proves nothing: it is read first. */
static void connection_doubt(struct gt_data_connection *connection, bool has_slept)
{
    connection_receive(connection);
    if (connection->state != CONNECTION_READY || gt_liveness_is_doubted(&connection->liveness))
        return;
    gt_debug("stream=%u attempt=%u data connection in doubt, probing", connection->stream,
             connection->attempt);
    gt_liveness_doubt(&connection->liveness, gt_clock(), has_slept);
    connection_arm_heartbeat(connection);
    connection->events->on_heartbeat(connection->userdata, true);
}

void gt_data_connection_probe(struct gt_data_connection *connection)
{
    if (!gt_liveness_is_fresh(&connection->liveness, gt_clock()))
        connection_doubt(connection, false);
}

void gt_data_connection_check(struct gt_data_connection *connection, bool has_slept)
{
    int fd = connection->dial ? gt_data_dial_fd(connection->dial) : connection->fd;

    if (fd < 0)
        return;
    enum gt_route route = gt_route_check_socket(fd, &connection->relay);
    if (route == GT_ROUTE_GONE)
        connection_lose(connection, "no route to the relay");
    else if (connection->dial && route == GT_ROUTE_CHANGED)
        connection_lose(connection, "the route to the relay has changed");
    else if (connection->state == CONNECTION_READY && (route == GT_ROUTE_CHANGED || has_slept))
        connection_doubt(connection, has_slept);
}

/* --- dialing ---------------------------------------------------------------------------------- */

/* The last handshake record goes out with the first record of the stream. The peer's first data may
 * have arrived with its last handshake record. */
static void connection_on_dialed(void *userdata, int fd, struct gt_tls *tls)
{
    struct gt_data_connection *connection = userdata;

    connection->dial = gt_data_dial_free(connection->dial);
    connection->fd = fd;
    connection->tls = tls;
    if (connection->unsent_max > 0)
        gt_sock_set_unsent_max(fd, connection->unsent_max);
    ev_io_set(&connection->reader, fd, EV_READ);
    ev_io_set(&connection->writer, fd, EV_WRITE);
    gt_liveness_received(&connection->liveness, gt_clock());
    connection_enter(connection, CONNECTION_READY);
    connection_arm_heartbeat(connection);
    connection->events->on_ready(connection->userdata);
    gt_data_connection_flush(connection);
    if (connection->state == CONNECTION_READY && gt_tls_has_pending(connection->tls))
        connection_receive(connection);
}

static void connection_on_dial_failed(void *userdata, const char *why)
{
    connection_lose(userdata, why);
}

/* --- events ----------------------------------------------------------------------------------- */

static const struct connection_state_row states[CONNECTION_GONE + 1] = {
    [CONNECTION_DIALING] = {"dialing", -1, NULL, NULL, NULL},
    [CONNECTION_READY] = {"ready", -1, connection_receive, connection_resume_writing,
                          connection_on_heartbeat},
    [CONNECTION_WRITE_FAILED] = {"write-failed", 5, connection_receive, NULL, connection_expire},
    [CONNECTION_CLOSING] = {"closing", 5, connection_discard, connection_continue_closing,
                            connection_expire},
    [CONNECTION_GONE] = {"gone", 0, NULL, NULL, connection_notify_gone},
};

static void connection_on_readable(struct ev_loop *loop, ev_io *watcher, int revents)
{
    struct gt_data_connection *connection = watcher->data;

    states[connection->state].on_readable(connection);
}

static void connection_on_writable(struct ev_loop *loop, ev_io *watcher, int revents)
{
    struct gt_data_connection *connection = watcher->data;

    states[connection->state].on_writable(connection);
}

static void connection_on_deadline(struct ev_loop *loop, ev_timer *watcher, int revents)
{
    struct gt_data_connection *connection = watcher->data;

    states[connection->state].on_deadline(connection);
}

/* --- life ------------------------------------------------------------------------------------- */

static int connection_dial(struct gt_data_connection *connection,
                           const struct gt_data_connection_settings *settings,
                           const struct gt_ticket *ticket)
{
    static const struct gt_data_dial_events events = {
        .on_ready = connection_on_dialed,
        .on_failed = connection_on_dial_failed,
    };
    const struct gt_data_dial_settings dial = {
        .loop = settings->loop,
        .role = settings->role,
        .session_key = settings->session_key,
        .tls = settings->tls,
        .path = settings->path,
        .timeout_s = connection->liveness.timeout_s,
    };

    return gt_data_dial_new(&dial, &connection->relay, ticket, &events, connection,
                            &connection->dial);
}

int gt_data_connection_new(const struct gt_data_connection_settings *settings,
                           const struct gt_addr *relay, const struct gt_ticket *ticket,
                           const struct gt_data_connection_events *events, void *userdata,
                           struct gt_data_connection **ret)
{
    struct gt_data_connection *connection = calloc(1, sizeof(*connection));

    if (!connection)
        return -ENOMEM;
    connection->loop = settings->loop;
    connection->stream = ticket->stream;
    connection->attempt = ticket->attempt;
    connection->events = events;
    connection->userdata = userdata;
    connection->relay = *relay;
    connection->unsent_max = settings->unsent_max;
    connection->fd = -1;
    gt_liveness_init(&connection->liveness, settings->role, settings->heartbeat_s,
                     settings->timeout_s);
    ev_init(&connection->reader, connection_on_readable);
    ev_init(&connection->writer, connection_on_writable);
    ev_init(&connection->deadline, connection_on_deadline);
    ev_timer_init(&connection->again, connection_on_again, 0, 0);
    connection->reader.data = connection->writer.data = connection;
    connection->deadline.data = connection->again.data = connection;
    int r = connection_dial(connection, settings, ticket);
    if (r) {
        free(connection);
        return r;
    }
    *ret = connection;
    return 0;
}

struct gt_data_connection *gt_data_connection_free(struct gt_data_connection *connection)
{
    if (connection) {
        connection_lose(connection, "freed");
        ev_timer_stop(connection->loop, &connection->deadline);
        free(connection);
    }
    return NULL;
}
