/* SPDX-License-Identifier: ISC */
/*
 * RESOLVING, then CONNECTING to the addresses, then DONE. One timer has the time limit of the
 * whole, the other one the delay before the next address.
 */
#include "gotthard/net/dial.h"

#include <netdb.h>
#include <stdio.h>
#include <string.h>

#include "gotthard/base/clock.h"
#include "gotthard/base/log.h"
#include "gotthard/net/resolve-error.h"
#include "gotthard/net/resolve.h"
#include "gotthard/net/route.h"

#define NEXT_S 0.25 /* RFC 8305, section 5: Connection Attempt Delay */

enum dial_state { DIAL_RESOLVING, DIAL_CONNECTING, DIAL_DONE };

struct attempt {
    struct gt_dial *dial;
    const struct gt_addr *addr;
    int fd; /* owned; -1: failed, or not started */
    ev_io writable;
    int err;         /* of its failure, positive; 0 before it */
    const char *why; /* the same as text, static */
};

struct gt_dial {
    double began; /* by gt_clock() */
    struct ev_loop *loop;
    enum dial_state state;
    gt_dial_fn on_done;
    gt_dial_filter_fn filter; /* NULL: every address may be dialed */
    void *userdata;
    struct gt_host_port to;
    struct gt_resolve *resolve; /* owned, while RESOLVING */
    struct gt_addr addrs[GT_RESOLVE_MAX];
    struct attempt attempts[GT_RESOLVE_MAX]; /* one for each address */
    size_t n_addrs, n_started, n_pending;
    bool is_udp;
    uint16_t segment;     /* of TCP; 0: the kernel decides */
    ev_tstamp delay;      /* before the next address, seconds */
    ev_timer next;        /* the next address is due */
    ev_timer deadline;    /* of the whole */
    char unresolved[160]; /* the reason if the name has no address */
};

static void attempt_stop(struct attempt *attempt)
{
    if (attempt->fd < 0)
        return;
    ev_io_stop(attempt->dial->loop, &attempt->writable);
    gt_close(&attempt->fd);
    attempt->dial->n_pending--;
}

static void dial_stop(struct gt_dial *dial)
{
    for (size_t i = 0; i < dial->n_started; i++)
        attempt_stop(&dial->attempts[i]);
    ev_timer_stop(dial->loop, &dial->next);
    ev_timer_stop(dial->loop, &dial->deadline);
    dial->resolve = gt_resolve_free(dial->resolve);
}

struct gt_dial *gt_dial_free(struct gt_dial *dial)
{
    if (!dial)
        return NULL;
    dial_stop(dial);
    free(dial);
    return NULL;
}

/* The last action of any handler, like dial_succeed: the owner may free @dial inside. */
static void dial_fail(struct gt_dial *dial, int err, const char *why)
{
    dial_stop(dial);
    dial->state = DIAL_DONE;
    dial->on_done(dial->userdata, -err, NULL, why);
}

static void dial_succeed(struct attempt *attempt)
{
    struct gt_dial *dial = attempt->dial;

    ev_io_stop(dial->loop, &attempt->writable);
    int fd = gt_steal_fd(&attempt->fd);
    dial->n_pending--;
    dial_stop(dial);
    dial->state = DIAL_DONE;
    dial->on_done(dial->userdata, fd, attempt->addr, NULL);
}

/* The reason is that of the first address, even if another one has failed earlier. */
static void dial_fail_all(struct gt_dial *dial)
{
    const struct attempt *first = &dial->attempts[0];

    dial_fail(dial, first->err ? first->err : ETIMEDOUT, first->err ? first->why : "no answer");
}

static void attempt_fail(struct attempt *attempt, int err, const char *why)
{
    attempt_stop(attempt);
    attempt->err = err;
    attempt->why = why;
}

/* TCP's simultaneous open (RFC 9293 section 3.5): a connection to a free port of this machine gets
 * that port as its own once in 28,000 times, and is then connected to itself. */
static bool is_its_own_peer(const struct attempt *attempt)
{
    struct gt_addr local, peer;

    return gt_sock_local(attempt->fd, &local) == 0 &&
           gt_addr_port(&local) == gt_addr_port(attempt->addr) &&
           gt_sock_peer(attempt->fd, &peer) == 0 && local.n == peer.n &&
           memcmp(&local.any, &peer.any, local.n) == 0;
}

/* @err: of the connection, 0 or negative. Returns true if it is established; otherwise the attempt
 * has failed. */
static bool attempt_finish(struct attempt *attempt, int err)
{
    if (err == 0 && is_its_own_peer(attempt))
        err = -ECONNREFUSED;
    if (err < 0)
        attempt_fail(attempt, -err, strerror(-err));
    return err == 0;
}

/* Returns true if it is connected already, as a target on this machine is. */
static bool attempt_start(struct attempt *attempt)
{
    struct gt_dial *dial = attempt->dial;
    char text[GT_ADDR_TEXT];

    gt_debug("dial=%s address=%s", dial->to.host, gt_addr_text(attempt->addr, text));
    int r = dial->is_udp ? gt_sock_connect_udp(attempt->addr)
                         : gt_sock_connect_segmented(attempt->addr, dial->segment);
    if (r < 0) {
        attempt_fail(attempt, -r, strerror(-r));
        return false;
    }
    attempt->fd = r;
    dial->n_pending++;
    int err = dial->is_udp ? 0 : gt_sock_connect_again(attempt->fd, attempt->addr);
    if (err != -EALREADY)
        return attempt_finish(attempt, err);
    ev_io_set(&attempt->writable, attempt->fd, EV_WRITE);
    ev_io_start(dial->loop, &attempt->writable);
    return false;
}

/* Starts the next address, or the first one after it that does not fail at once. Without one, and
 * with none pending, the dial has failed. */
static void dial_proceed(struct gt_dial *dial)
{
    size_t n_before = dial->n_pending;

    ev_timer_stop(dial->loop, &dial->next);
    while (dial->n_started < dial->n_addrs && dial->n_pending == n_before) {
        struct attempt *attempt = &dial->attempts[dial->n_started++];

        if (attempt_start(attempt)) {
            dial_succeed(attempt);
            return;
        }
    }
    if (dial->n_pending == 0) {
        dial_fail_all(dial);
    } else if (dial->n_started < dial->n_addrs) {
        ev_timer_set(&dial->next, dial->delay, 0.);
        ev_timer_start(dial->loop, &dial->next);
    }
}

void gt_dial_set_segment(struct gt_dial *dial, uint16_t segment)
{
    dial->segment = segment;
}

void gt_dial_set_udp(struct gt_dial *dial)
{
    dial->is_udp = true;
}

void gt_dial_set_filter(struct gt_dial *dial, gt_dial_filter_fn filter)
{
    dial->filter = filter;
}

void gt_dial_check(struct gt_dial *dial)
{
    bool has_failed = false;

    for (size_t i = 0; dial->state == DIAL_CONNECTING && i < dial->n_started; i++) {
        struct attempt *attempt = &dial->attempts[i];

        if (attempt->fd < 0 || gt_route_check_socket(attempt->fd, attempt->addr) != GT_ROUTE_GONE)
            continue;
        attempt_fail(attempt, ENETUNREACH, "the network has gone");
        has_failed = true;
    }
    if (has_failed)
        dial_proceed(dial);
}

static void dial_on_writable(struct ev_loop *loop, ev_io *w, int revents)
{
    struct attempt *attempt = w->data;

    if (attempt_finish(attempt, gt_sock_error(attempt->fd)))
        dial_succeed(attempt);
    else
        dial_proceed(attempt->dial);
}

static void dial_on_next(struct ev_loop *loop, ev_timer *w, int revents)
{
    dial_proceed(w->data);
}

static void dial_on_deadline(struct ev_loop *loop, ev_timer *w, int revents)
{
    struct gt_dial *dial = w->data;

    if (dial->state == DIAL_RESOLVING)
        dial_fail(dial, EAGAIN, "the resolver does not answer");
    else
        dial_fail_all(dial);
}

/* A name without an address needs another configuration, a resolver that fails only time. */
static void dial_on_unresolved(struct gt_dial *dial, int err)
{
    bool is_absent = err == 0 || gt_resolve_is_unknown(err);
    char why[GT_RESOLVE_WHY];

    snprintf(dial->unresolved, sizeof(dial->unresolved), "%s %.80s (%s)",
             is_absent ? "no address for" : "the resolver failed for", dial->to.host,
             gt_resolve_describe(err != 0 ? err : EAI_NODATA, gt_clock() - dial->began, why,
                                 sizeof(why)));
    dial_fail(dial, is_absent ? ENXIO : EAGAIN, dial->unresolved);
}

/* @family: AF_UNSPEC: both. */
static void dial_keep_family(struct gt_dial *dial, const struct gt_addr *addrs, size_t n_addrs,
                             int family)
{
    for (size_t i = 0; i < n_addrs && dial->n_addrs < GT_ARRAY_SIZE(dial->addrs); i++)
        if ((family == AF_UNSPEC || addrs[i].any.sa_family == family) &&
            (!dial->filter || dial->filter(dial->userdata, &addrs[i])))
            dial->addrs[dial->n_addrs++] = addrs[i];
}

/* UDP has no race of addresses: the first one with a route wins, and a server of one family has
 * IPv4 in most cases. */
static void dial_keep_addresses(struct gt_dial *dial, const struct gt_addr *addrs, size_t n_addrs)
{
    if (!dial->is_udp) {
        dial_keep_family(dial, addrs, n_addrs, AF_UNSPEC);
        return;
    }
    dial_keep_family(dial, addrs, n_addrs, AF_INET);
    dial_keep_family(dial, addrs, n_addrs, AF_INET6);
}

static void dial_on_resolved(void *userdata, int err, const struct gt_addr *addrs, size_t n_addrs)
{
    struct gt_dial *dial = userdata;

    if (err != 0 || n_addrs == 0) {
        dial_on_unresolved(dial, err);
        return;
    }
    dial_keep_addresses(dial, addrs, n_addrs);
    dial->resolve = gt_resolve_free(dial->resolve);
    if (dial->n_addrs == 0) {
        dial_fail(dial, EACCES, "its address is not permitted");
        return;
    }
    dial->state = DIAL_CONNECTING;
    dial->delay =
        GT_MIN(NEXT_S, ev_timer_remaining(dial->loop, &dial->deadline) / (double)dial->n_addrs);
    dial_proceed(dial);
}

static void dial_init(struct gt_dial *dial, struct ev_loop *loop, unsigned timeout_ms)
{
    ev_now_update(loop);
    dial->loop = loop;
    for (size_t i = 0; i < GT_ARRAY_SIZE(dial->attempts); i++) {
        struct attempt *attempt = &dial->attempts[i];

        *attempt = (struct attempt){.dial = dial, .addr = &dial->addrs[i], .fd = -1};
        ev_init(&attempt->writable, dial_on_writable);
        attempt->writable.data = attempt;
    }
    ev_init(&dial->next, dial_on_next);
    ev_timer_init(&dial->deadline, dial_on_deadline, timeout_ms / 1000., 0.);
    dial->next.data = dial->deadline.data = dial;
}

int gt_dial_new(struct ev_loop *loop, const struct gt_host_port *to, unsigned timeout_ms,
                gt_dial_fn on_done, void *userdata, struct gt_dial **ret)
{
    struct gt_dial *dial = calloc(1, sizeof(*dial));

    if (!dial)
        return -ENOMEM;
    dial_init(dial, loop, timeout_ms);
    dial->on_done = on_done;
    dial->userdata = userdata;
    dial->to = *to;
    dial->began = gt_clock();
    int r = gt_resolve_new(loop, to->host, to->port, dial_on_resolved, dial, &dial->resolve);
    if (r != 0) {
        gt_dial_free(dial);
        return r;
    }
    ev_timer_start(loop, &dial->deadline);
    *ret = dial;
    return 0;
}

void gt_dial_try_now(struct gt_dial *dial)
{
    if (dial->state == DIAL_RESOLVING)
        gt_resolve_report_known(dial->resolve);
}
