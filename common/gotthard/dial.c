/* SPDX-License-Identifier: ISC */
/*
 * A silent address is given a few seconds only when there is another one to try: that is what
 * makes a host with a broken IPv6 reachable. The last one has all the time that is left.
 */
#include "gotthard/dial.h"

#include <netdb.h>
#include <stdio.h>
#include <string.h>

#include "gotthard/clock.h"
#include "gotthard/log.h"
#include "gotthard/resolve.h"
#include "gotthard/text.h"
#include "gotthard/way.h"

#define NEXT_ADDRESS_S 4.

enum dial_state { DIAL_RESOLVING, DIAL_CONNECTING };

struct gt_dial {
    struct ev_loop *loop;
    enum dial_state state;
    gt_dial_fn done;
    void *userdata;
    char host[GT_HOST_MAX + 1];
    struct gt_resolve *resolve;
    struct gt_addr addrs[GT_RESOLVE_MAX];
    size_t n_addrs, at;
    int fd;
    ev_io writable;
    ev_timer deadline;
    ev_tstamp give_up_at; /* by gt_clock() */
    char why[160];        /* the first failure, "" before it */
};

static void dial_disconnect(struct gt_dial *dial)
{
    ev_io_stop(dial->loop, &dial->writable);
    gt_close(&dial->fd);
}

struct gt_dial *gt_dial_cancel(struct gt_dial *dial)
{
    if (dial) {
        gt_resolve_cancel(dial->resolve);
        ev_timer_stop(dial->loop, &dial->deadline);
        dial_disconnect(dial);
        free(dial);
    }
    return NULL;
}

static void dial_done(struct gt_dial *dial, const struct gt_addr *addr)
{
    int fd = gt_steal_fd(&dial->fd);
    ev_io_stop(dial->loop, &dial->writable);
    ev_timer_stop(dial->loop, &dial->deadline);
    dial->done(dial->userdata, fd, addr, fd < 0 ? dial->why : NULL);
    gt_dial_cancel(dial);
}

static void dial_enter(struct gt_dial *dial, enum dial_state state)
{
    ev_tstamp left = dial->give_up_at - gt_clock();
    bool is_last = state == DIAL_RESOLVING || dial->at + 1 == dial->n_addrs;
    dial->state = state;
    dial->deadline.repeat = GT_MAX(is_last ? left : GT_MIN(left, NEXT_ADDRESS_S), 1e-6);
    ev_timer_again(dial->loop, &dial->deadline);
}

/* Only the first failure is kept: it is the address the resolver preferred. */
static void dial_remember(struct gt_dial *dial, const char *why)
{
    if (dial->why[0] == 0)
        snprintf(dial->why, sizeof dial->why, "%s", why);
}

/* Begins with the address ->at, or the first after it that can be begun with. */
static void dial_connect(struct gt_dial *dial)
{
    for (; dial->at < dial->n_addrs; dial->at++) {
        char text[GT_ADDR_TEXT];
        gt_debug("dial=%s to %s", dial->host, gt_addr_text(&dial->addrs[dial->at], text));
        dial->fd = gt_sock_connect(&dial->addrs[dial->at]);
        if (dial->fd >= 0) {
            ev_io_set(&dial->writable, dial->fd, EV_WRITE);
            ev_io_start(dial->loop, &dial->writable);
            dial_enter(dial, DIAL_CONNECTING);
            return;
        }
        dial_remember(dial, strerrordesc_np(-dial->fd));
    }
    dial->fd = -1;
    dial_done(dial, NULL);
}

static void dial_try_next(struct gt_dial *dial, const char *why)
{
    dial_remember(dial, why);
    dial_disconnect(dial);
    dial->at = gt_clock() < dial->give_up_at ? dial->at + 1 : dial->n_addrs;
    dial_connect(dial);
}

void gt_dial_check(struct gt_dial *dial)
{
    if (dial->state == DIAL_CONNECTING &&
        gt_way_of(dial->fd, &dial->addrs[dial->at]) == GT_WAY_GONE)
        dial_try_next(dial, "the network has gone");
}

static void dial_on_writable(struct ev_loop *loop, ev_io *w, int revents)
{
    struct gt_dial *dial = w->data;
    int r = gt_sock_error(dial->fd);
    if (r)
        dial_try_next(dial, strerrordesc_np(-r));
    else
        dial_done(dial, &dial->addrs[dial->at]);
}

static void dial_on_deadline(struct ev_loop *loop, ev_timer *w, int revents)
{
    struct gt_dial *dial = w->data;
    switch (dial->state) {
    case DIAL_RESOLVING:
        dial->resolve = gt_resolve_cancel(dial->resolve);
        dial_remember(dial, "the resolver does not answer");
        dial_done(dial, NULL);
        return;
    case DIAL_CONNECTING: dial_try_next(dial, "no answer"); return;
    }
}

static void dial_on_resolved(void *userdata, int err, const struct gt_addr *addrs, size_t n_addrs)
{
    struct gt_dial *dial = userdata;
    dial->resolve = NULL; /* it frees itself */
    if (err || n_addrs == 0)
        snprintf(dial->why, sizeof dial->why, "no address for %.80s (%s)", dial->host,
                 gai_strerror(err ? err : EAI_NONAME));
    dial->n_addrs = err ? 0 : GT_MIN(n_addrs, GT_ARRAY_SIZE(dial->addrs));
    memcpy(dial->addrs, addrs, dial->n_addrs * sizeof *addrs);
    dial_connect(dial);
}

int gt_dial_new(struct ev_loop *loop, const char *host, uint16_t port, unsigned timeout_ms,
                gt_dial_fn done, void *userdata, struct gt_dial **ret)
{
    struct gt_dial *dial = calloc(1, sizeof *dial);
    if (!dial)
        return -ENOMEM;
    ev_now_update(loop);
    dial->loop = loop;
    dial->done = done;
    dial->userdata = userdata;
    dial->fd = -1;
    dial->give_up_at = gt_clock() + timeout_ms / 1000.;
    snprintf(dial->host, sizeof dial->host, "%s", host);
    ev_init(&dial->writable, dial_on_writable);
    ev_init(&dial->deadline, dial_on_deadline);
    dial->writable.data = dial->deadline.data = dial;
    int r = gt_resolve_new(loop, host, port, dial_on_resolved, dial, &dial->resolve);
    if (r) {
        gt_dial_cancel(dial);
        return r;
    }
    dial_enter(dial, DIAL_RESOLVING);
    *ret = dial;
    return 0;
}
