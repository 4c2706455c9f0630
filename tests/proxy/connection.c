/* SPDX-License-Identifier: ISC */
/*
 * The life of a connection. What ends inside a flow's callback is only put among the dead, and
 * freed before the loop waits again. A network's handshake takes a round trip that two kernels on
 * one machine do not: the first bytes of either side wait as long as they would have.
 */
#include "connection.h"

#include <string.h>

#define CONNECTION_ENDING_S 5.0

const char *connection_state_name(enum connection_state state)
{
    switch (state) {
    case CONNECTION_HELD: return "held";
    case CONNECTION_DIALLING: return "dialling";
    case CONNECTION_OPEN: return "open";
    case CONNECTION_ENDING: return "ending";
    case CONNECTION_DEAD: return "dead";
    }
    return NULL;
}

static bool connection_has_flows(const struct connection *connection)
{
    return connection->flows[PROXY_UP].loop != NULL;
}

uint64_t connection_n_bytes(const struct connection *connection, enum proxy_way way)
{
    return connection->flows[way].n_out;
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

    if (connection->state == CONNECTION_DEAD)
        return;
    connection->state = CONNECTION_DEAD;
    for (int way = 0; way < PROXY_WAYS; way++) {
        flow_deinit(&connection->flows[way]);
        proxy->n_bytes[way] += connection_n_bytes(connection, (enum proxy_way)way);
    }
    ev_io_stop(proxy->loop, &connection->dialling);
    ev_timer_stop(proxy->loop, &connection->ending);
    connection_close(&connection->here, is_reset);
    connection_close(&connection->there, is_reset);
    gt_list_unlink(&connection->element);
    gt_list_append(&proxy->dead, &connection->element);
}

void connection_reset(struct connection *connection)
{
    connection_end(connection, true);
}

void connection_bury(struct proxy *proxy)
{
    gt_list_for_each_safe (at, next, &proxy->dead) {
        struct connection *connection = gt_list_entry(at, struct connection, element);
        gt_list_unlink(&connection->element);
        free(connection);
    }
}

/* --- the flows' news --- */

static struct flow *connection_other(struct connection *connection, const struct flow *flow)
{
    return &connection->flows[flow == &connection->flows[PROXY_UP] ? PROXY_DOWN : PROXY_UP];
}

static void connection_on_drained(struct connection *connection)
{
    if (++connection->n_drained == PROXY_WAYS)
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

/* --- the way to the target --- */

static bool connection_make_flows(struct connection *connection)
{
    int sockets[PROXY_WAYS] = {connection->here, connection->there};

    for (int way = 0; way < PROXY_WAYS; way++) {
        struct flow *flow = &connection->flows[way];
        if (flow_init(flow, connection->proxy->loop, sockets[way], sockets[!way],
                      &connection->weather[way], &connection->heard_at) < 0)
            return false;
        flow->owner = connection;
        flow->on_event = connection_on_event;
        flow->on_data = connection_on_data;
    }
    return true;
}

/* The client may send after a round trip; the server accepts when the third packet has come. */
static void connection_open(struct connection *connection)
{
    const struct weather *weather = connection->weather;
    double up = weather[PROXY_UP].delay, down = weather[PROXY_DOWN].delay;
    double opens_at = connection->proxy->is_handshaking ? connection->born_at + up + down : 0;

    if (!connection_make_flows(connection)) {
        connection_end(connection, true);
        return;
    }
    connection->state = CONNECTION_OPEN;
    connection->heard_at = weather_clock();
    flow_start(&connection->flows[PROXY_UP], opens_at);
    if (connection->state == CONNECTION_OPEN)
        flow_start(&connection->flows[PROXY_DOWN], opens_at > 0 ? opens_at + up : 0);
}

static void connection_on_dialled(struct ev_loop *loop, ev_io *watcher, int events)
{
    struct connection *connection = watcher->data;

    ev_io_stop(loop, watcher);
    if (gt_sock_error(connection->there) < 0)
        connection_end(connection, true);
    else
        connection_open(connection);
}

/* From the address at which the client found us: to a relay each side has a source of its own. */
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

void connection_let_through(struct connection *connection)
{
    if (connection->state != CONNECTION_HELD)
        return;
    connection->born_at = weather_clock();
    connection->there = connection_dial(connection);
    if (connection->there < 0) {
        connection_end(connection, true);
        return;
    }
    connection->state = CONNECTION_DIALLING;
    ev_io_set(&connection->dialling, connection->there, EV_WRITE);
    ev_io_start(connection->proxy->loop, &connection->dialling);
}

/* --- orders --- */

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

struct weather *connection_weather(struct connection *connection, enum proxy_way way)
{
    return connection_has_flows(connection) ? &connection->flows[way].weather
                                            : &connection->weather[way];
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
        abort(); /* a tool of the tests: there is nobody to tell */
    connection->proxy = proxy;
    connection->id = ++proxy->last_id;
    connection->port = gt_addr_port(at);
    connection->from = *at;
    connection->to = *to;
    connection->here = here;
    connection->there = -1;
    connection->born_at = weather_clock();
    memcpy(connection->weather, proxy->weather, sizeof(connection->weather));
    ev_init(&connection->dialling, connection_on_dialled);
    ev_timer_init(&connection->ending, connection_on_ending, CONNECTION_ENDING_S, 0);
    connection->dialling.data = connection->ending.data = connection;
    gt_list_append(&proxy->connections, &connection->element);
    if (proxy->welcome == PROXY_THROUGH)
        connection_let_through(connection);
}
