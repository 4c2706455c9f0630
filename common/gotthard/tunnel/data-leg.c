/* SPDX-License-Identifier: ISC */
/*
 * One row per state: watched directions, deadline, and the reason that is reported when the
 * deadline passes. Must never read one byte beyond the relay's reply: the next ones are the other
 * side's.
 */
#include "gotthard/tunnel/data-leg.h"

#include <stdio.h>

#include "gotthard/base/log.h"

static const struct leg_state_row {
    const char *name;
    ev_tstamp deadline_s;
    const char *expired;                          /* the reason when the deadline passes */
    void (*on_readable)(struct gt_data_leg *leg); /* NULL: not watched */
    void (*on_writable)(struct gt_data_leg *leg);
} states[GT_DATA_LEG_WAITING + 1]; /* defined below its handlers */

static void watch(struct ev_loop *loop, ev_io *watcher, bool is_wanted)
{
    if (is_wanted)
        ev_io_start(loop, watcher);
    else
        ev_io_stop(loop, watcher);
}

static void leg_arm(struct gt_data_leg *leg, ev_tstamp after)
{
    ev_timer_stop(leg->loop, &leg->deadline);
    ev_timer_set(&leg->deadline, after, 0);
    ev_timer_start(leg->loop, &leg->deadline);
}

static void leg_enter(struct gt_data_leg *leg, enum gt_data_leg_state state)
{
    gt_debug("data connection to port %u: %s", leg->port, states[state].name);
    leg->state = state;
    watch(leg->loop, &leg->reader, states[state].on_readable);
    watch(leg->loop, &leg->writer, states[state].on_writable);
    leg_arm(leg, states[state].deadline_s);
}

static void leg_unwatch(struct gt_data_leg *leg)
{
    ev_io_stop(leg->loop, &leg->reader);
    ev_io_stop(leg->loop, &leg->writer);
    ev_timer_stop(leg->loop, &leg->deadline);
    gt_wipe(leg->join, sizeof(leg->join));
    gt_wipe(leg->proxy_handshake.out, sizeof(leg->proxy_handshake.out));
    leg->state = GT_DATA_LEG_IDLE;
}

void gt_data_leg_stop(struct gt_data_leg *leg)
{
    leg_unwatch(leg);
    gt_close(&leg->fd);
}

/* A tail call only. */
static void leg_fail(struct gt_data_leg *leg, const char *why)
{
    gt_data_leg_stop(leg);
    leg->why = why;
    leg->events->on_failed(leg);
}

/* A tail call only. EAGAIN and EINTR are no failure: the watcher calls again. */
static void leg_fail_errno(struct gt_data_leg *leg)
{
    if (errno != EAGAIN && errno != EINTR)
        leg_fail(leg, strerror(errno));
}

/* --- the proxy -------------------------------------------------------------------------------- */

static void leg_continue_proxy(struct gt_data_leg *leg)
{
    int r = gt_proxy_handshake_run(&leg->proxy_handshake, leg->fd);

    watch(leg->loop, &leg->reader, r == GT_PROXY_HANDSHAKE_E_READ);
    watch(leg->loop, &leg->writer, r == 0 || r == GT_PROXY_HANDSHAKE_E_WRITE);
    if (r == 0) {
        leg->proxy = NULL;
        leg_enter(leg, GT_DATA_LEG_CONNECTING);
    } else if (r == GT_PROXY_HANDSHAKE_E_FAILED) {
        leg->is_denied = leg->proxy_handshake.is_answered;
        leg_fail(leg, leg->proxy_handshake.why);
    }
}

/* --- JOIN ------------------------------------------------------------------------------------- */

/* The first send() also reports the outcome of connect(). */
static void leg_send_join(struct gt_data_leg *leg)
{
    if (leg->proxy) {
        leg_enter(leg, GT_DATA_LEG_PROXY);
        return;
    }
    ssize_t n =
        send(leg->fd, leg->join + leg->n_done, sizeof(leg->join) - leg->n_done, MSG_NOSIGNAL);

    if (n < 0) {
        leg_fail_errno(leg);
        return;
    }
    leg->n_done += (size_t)n;
    if (leg->n_done < sizeof(leg->join))
        return;
    gt_wipe(leg->join, sizeof(leg->join));
    leg->n_done = 0;
    leg_enter(leg, GT_DATA_LEG_JOINING);
}

/* A reply, or as much of it as has arrived. A tail call only. */
static void leg_handle_reply(struct gt_data_leg *leg)
{
    bool is_reply = memcmp(leg->reply, gt_join_reply, leg->n_done) == 0;
    bool is_receipt = memcmp(leg->reply, gt_join_receipt, leg->n_done) == 0;

    if (!is_reply && (!is_receipt || leg->state == GT_DATA_LEG_WAITING)) {
        leg_fail(leg, "the answer is not the relay's");
    } else if (leg->n_done == sizeof(leg->reply) && is_receipt) {
        leg->n_done = 0;
        leg_enter(leg, GT_DATA_LEG_WAITING);
        leg->events->on_received(leg);
    } else if (leg->n_done == sizeof(leg->reply)) {
        leg_unwatch(leg);
        leg->events->on_joined(leg);
    }
}

static void leg_receive_reply(struct gt_data_leg *leg)
{
    ssize_t n = recv(leg->fd, leg->reply + leg->n_done, sizeof(leg->reply) - leg->n_done, 0);

    if (n < 0) {
        leg_fail_errno(leg);
    } else if (n == 0) {
        leg_fail(leg, leg->state == GT_DATA_LEG_WAITING ? "the other side did not connect"
                                                        : "closed without an answer to JOIN");
    } else {
        leg->n_done += (size_t)n;
        leg_handle_reply(leg);
    }
}

/* --- events ----------------------------------------------------------------------------------- */

/* WAITING includes the time that the other side needs for its ticket and its own connection. */
static const struct leg_state_row states[GT_DATA_LEG_WAITING + 1] = {
    [GT_DATA_LEG_CONNECTING] = {"connecting", 8, "no answer", NULL, leg_send_join},
    [GT_DATA_LEG_PROXY] = {"at the proxy", 8, "no answer of the proxy", leg_continue_proxy,
                           leg_continue_proxy},
    [GT_DATA_LEG_JOINING] = {"joining", 5, "no answer to JOIN", leg_receive_reply, NULL},
    [GT_DATA_LEG_WAITING] = {"waiting", 20, "the other side did not connect", leg_receive_reply,
                             NULL},
};

static void leg_on_readable(struct ev_loop *loop, ev_io *watcher, int revents)
{
    struct gt_data_leg *leg = watcher->data;

    states[leg->state].on_readable(leg);
}

static void leg_on_writable(struct ev_loop *loop, ev_io *watcher, int revents)
{
    struct gt_data_leg *leg = watcher->data;

    states[leg->state].on_writable(leg);
}

static void leg_on_deadline(struct ev_loop *loop, ev_timer *watcher, int revents)
{
    struct gt_data_leg *leg = watcher->data;

    leg_fail(leg, leg->why ? leg->why : states[leg->state].expired);
}

/* --- life ------------------------------------------------------------------------------------- */

void gt_data_leg_init(struct gt_data_leg *leg, struct ev_loop *loop,
                      const struct gt_data_leg_events *events, void *userdata)
{
    leg->loop = loop;
    leg->events = events;
    leg->userdata = userdata;
    leg->fd = -1;
    ev_init(&leg->reader, leg_on_readable);
    ev_init(&leg->writer, leg_on_writable);
    ev_init(&leg->deadline, leg_on_deadline);
    leg->reader.data = leg->writer.data = leg->deadline.data = leg;
}

/*
 * The kernel breaks the connection when the peer accepts nothing for as long as this side waits for
 * data. That is right even for a slow reader, which closes its TCP window. Its unread data is
 * bounded by the window of the stream, and its end has room for that window: it always reads its
 * data connection, whatever its local socket does. The relay reads ours as long as that end reads
 * its own, and has no such timeout on its sockets. So only an end that is stopped or unreachable
 * for longer than the timeout keeps our TCP window closed.
 */
void gt_data_leg_start(struct gt_data_leg *leg, const struct gt_data_leg_to *to,
                       const struct gt_join *join)
{
    struct gt_addr addr = *to->relay;
    struct gt_host_port target = {.port = gt_addr_port(to->relay)};

    gt_join_encode(join, leg->join);
    leg->port = target.port;
    leg->proxy = to->proxy;
    if (to->proxy) {
        snprintf(target.host, sizeof(target.host), "%s", to->host);
        gt_proxy_handshake_init(&leg->proxy_handshake, to->proxy, &target);
        gt_addr_set_port(&addr, to->proxy->port);
    }
    leg->fd = gt_sock_connect_segmented(&addr, to->segment);
    if (leg->fd < 0) {
        leg->why = strerror(-leg->fd);
        leg->fd = -1;
        leg->state = GT_DATA_LEG_CONNECTING;
        leg_arm(leg, 0); /* no callback from inside */
        return;
    }
    gt_sock_set_timeout(leg->fd, to->timeout_s);
    ev_io_set(&leg->reader, leg->fd, EV_READ);
    ev_io_set(&leg->writer, leg->fd, EV_WRITE);
    leg_enter(leg, GT_DATA_LEG_CONNECTING);
}
