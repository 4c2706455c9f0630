/* SPDX-License-Identifier: ISC */
/*
 * The life of a connection. A connection that ends inside a callback of a flow is only put into the
 * list of ended ones, and freed before the loop waits again. The handshake of a network takes a
 * round trip, which two kernels on one machine do not need: the first bytes of either side are
 * delayed as long as that network would delay them.
 */
#include "connection.h"

#include <string.h>

#define CONNECTION_ENDING_S 5.0

const char *connection_state_name(enum connection_state state)
{
    switch (state) {
    case CONNECTION_HELD: return "held";
    case CONNECTION_DIALING: return "dialing";
    case CONNECTION_OPEN: return "open";
    case CONNECTION_ENDING: return "ending";
    case CONNECTION_ENDED: return "ended";
    }
    return NULL;
}

static bool connection_has_flows(const struct connection *connection)
{
    return connection->flows[PROXY_UP].loop != NULL;
}

uint64_t connection_n_bytes(const struct connection *connection, enum proxy_direction direction)
{
    return connection->flows[direction].n_out;
}

static void connection_close(int *fd, bool is_reset)
{
    if (*fd >= 0 && is_reset)
        gt_sock_reset(gt_steal_fd(fd));
    gt_close(fd);
}

static void connection_end(struct connection *connection, bool is_reset)
{
    struct proxy *proxy = connection->proxy;

    if (connection->state == CONNECTION_ENDED)
        return;
    connection->state = CONNECTION_ENDED;
    for (int direction = 0; direction < PROXY_DIRECTIONS; direction++) {
        flow_deinit(&connection->flows[direction]);
        proxy->n_bytes[direction] +=
            connection_n_bytes(connection, (enum proxy_direction)direction);
    }
    ev_io_stop(proxy->loop, &connection->dialing);
    ev_timer_stop(proxy->loop, &connection->ending);
    connection_close(&connection->here, is_reset);
    connection_close(&connection->there, is_reset);
    gt_list_unlink(&connection->element);
    gt_list_append(&proxy->ended, &connection->element);
}

void connection_reset(struct connection *connection)
{
    connection_end(connection, true);
}

void connection_reap(struct proxy *proxy)
{
    gt_list_for_each_safe (at, next, &proxy->ended) {
        struct connection *connection = gt_list_entry(at, struct connection, element);

        gt_list_unlink(&connection->element);
        free(connection);
    }
}

/* --- events of the flows --- */

static struct flow *connection_other(struct connection *connection, const struct flow *flow)
{
    return &connection->flows[flow == &connection->flows[PROXY_UP] ? PROXY_DOWN : PROXY_UP];
}

static void connection_on_drained(struct connection *connection)
{
    if (++connection->n_drained == PROXY_DIRECTIONS)
        connection_end(connection, false);
}

static void connection_on_event(struct flow *flow, enum flow_event event)
{
    struct connection *connection = flow->owner;
    struct flow *other = connection_other(connection, flow);

    switch (event) {
    case FLOW_DELIVERED:
        if (other->is_over)
            connection_end(connection, false);
        break;
    case FLOW_SOURCE_LOST: flow_abandon(other); break;
    case FLOW_SINK_LOST: flow_break(other); break;
    case FLOW_RESET: connection_end(connection, true); break;
    case FLOW_FORGOTTEN:
        flow_forget(flow);
        flow_forget(other);
        break;
    case FLOW_DRAINED: connection_on_drained(connection); break;
    }
}

static void connection_on_data(struct flow *flow, const uint8_t *data, size_t n)
{
    struct connection *connection = flow->owner;
    const struct flow *down = &connection->flows[PROXY_DOWN];

    if (flow == down || down->n_in)
        return;
    n = GT_MIN(n, CONNECTION_FLIGHT - connection->n_flight);
    memcpy(connection->flight + connection->n_flight, data, n);
    connection->n_flight += n;
}

/* --- connecting to the target --- */

static bool connection_make_flows(struct connection *connection)
{
    int sockets[PROXY_DIRECTIONS] = {connection->here, connection->there};

    for (int direction = 0; direction < PROXY_DIRECTIONS; direction++) {
        struct flow *flow = &connection->flows[direction];

        if (flow_init(flow, connection->proxy->loop, sockets[direction], sockets[!direction],
                      &connection->impairments[direction], &connection->received_at) < 0)
            return false;
        flow->owner = connection;
        flow->on_event = connection_on_event;
        flow->on_data = connection_on_data;
    }
    return true;
}

/* The client may send after one round trip; the server accepts when the third packet arrives. */
static void connection_open(struct connection *connection)
{
    const struct impairments *impairments = connection->impairments;
    double up = impairments[PROXY_UP].delay, down = impairments[PROXY_DOWN].delay;
    double opens_at = connection->proxy->is_handshaking ? connection->created_at + up + down : 0;

    if (!connection_make_flows(connection)) {
        connection_end(connection, true);
        return;
    }
    connection->state = CONNECTION_OPEN;
    connection->received_at = impairments_clock();
    flow_start(&connection->flows[PROXY_UP], opens_at);
    if (connection->state == CONNECTION_OPEN)
        flow_start(&connection->flows[PROXY_DOWN], opens_at > 0 ? opens_at + up : 0);
}

static void connection_on_connected(struct ev_loop *loop, ev_io *watcher, int events)
{
    struct connection *connection = watcher->data;

    ev_io_stop(loop, watcher);
    if (gt_sock_error(connection->there) < 0)
        connection_end(connection, true);
    else
        connection_open(connection);
}

/* The source is the address that the client connected to: a relay sees a different source for each
 * side. */
int connection_dial(const struct connection *connection)
{
    const struct gt_addr *to = &connection->to;
    gt_cleanup(gt_close) int fd =
        socket(to->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct gt_addr from = connection->from;

    if (fd < 0)
        return -errno;
    gt_sock_tune(fd, to);
    gt_addr_set_port(&from, 0);
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &(int){1}, sizeof(int));
    if (from.any.sa_family == to->any.sa_family && gt_addr_is_loopback(&from) &&
        gt_addr_is_loopback(to) && bind(fd, &from.any, from.n) < 0)
        return -errno;
    if (connect(fd, &to->any, to->n) < 0 && errno != EINPROGRESS)
        return -errno;
    return gt_steal_fd(&fd);
}

void connection_forward(struct connection *connection)
{
    if (connection->state != CONNECTION_HELD)
        return;
    connection->created_at = impairments_clock();
    connection->there = connection_dial(connection);
    if (connection->there < 0) {
        connection_end(connection, true);
        return;
    }
    connection->state = CONNECTION_DIALING;
    ev_io_set(&connection->dialing, connection->there, EV_WRITE);
    ev_io_start(connection->proxy->loop, &connection->dialing);
}

/* --- commands --- */

static void connection_on_ending(struct ev_loop *loop, ev_timer *timer, int events)
{
    connection_end(timer->data, false);
}

void connection_cut(struct connection *connection)
{
    if (connection->state != CONNECTION_OPEN) {
        connection_end(connection, false);
        return;
    }
    connection->state = CONNECTION_ENDING;
    shutdown(connection->here, SHUT_WR);
    shutdown(connection->there, SHUT_WR);
    flow_drain(&connection->flows[PROXY_UP]);
    flow_drain(&connection->flows[PROXY_DOWN]);
    ev_timer_start(connection->proxy->loop, &connection->ending);
}

struct impairments *connection_impairments(struct connection *connection,
                                           enum proxy_direction direction)
{
    return connection_has_flows(connection) ? &connection->flows[direction].impairments
                                            : &connection->impairments[direction];
}

void connection_update(struct connection *connection)
{
    if (connection->state == CONNECTION_OPEN)
        flow_update(&connection->flows[PROXY_UP]);
    if (connection->state == CONNECTION_OPEN)
        flow_update(&connection->flows[PROXY_DOWN]);
}

void connection_new(struct proxy *proxy, int here, const struct gt_addr *at,
                    const struct gt_addr *to)
{
    struct connection *connection = calloc(1, sizeof(*connection));

    if (!connection)
        abort(); /* out of memory in a tool of the tests */
    connection->proxy = proxy;
    connection->id = ++proxy->last_id;
    connection->port = gt_addr_port(at);
    connection->from = *at;
    connection->to = *to;
    connection->here = here;
    connection->there = -1;
    connection->created_at = impairments_clock();
    memcpy(connection->impairments, proxy->impairments, sizeof(connection->impairments));
    ev_init(&connection->dialing, connection_on_connected);
    ev_timer_init(&connection->ending, connection_on_ending, CONNECTION_ENDING_S, 0);
    connection->dialing.data = connection->ending.data = connection;
    gt_list_append(&proxy->connections, &connection->element);
    if (proxy->policy == PROXY_THROUGH)
        connection_forward(connection);
}
