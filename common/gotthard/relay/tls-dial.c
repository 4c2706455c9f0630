/* SPDX-License-Identifier: ISC */
/*
 * Two steps, with a proxy three, and a common time limit. The end reason is decided here, where the
 * failed step is known: a relay that refused the key is not the same as a relay that could not be
 * reached.
 */
#include "gotthard/relay/tls-dial.h"

#include <stdio.h>
#include <string.h>

#include "gotthard/base/clock.h"
#include "gotthard/base/log.h"
#include "gotthard/net/dial.h"
#include "gotthard/net/route.h"
#include "gotthard/proto/control.h"

#define USER_TIMEOUT_S 45 /* safe with TCP_USER_TIMEOUT: the relay always reads its clients */
#define SEGMENT                                                                       \
    536 /* bytes of TCP: passes any link (RFC 879), and the connection carries little \
         */

static const struct {
    const char *name;
    ev_tstamp limit; /* seconds, and not beyond give_up_at */
    const char *why;
} states[] = {
    [GT_TLS_DIAL_CONNECTING] = {"connecting", 3600., "no answer"}, /* gt_dial has the limit */
    [GT_TLS_DIAL_PROXY] = {"proxy", 15., ""}, /* while it resolves and connects */
    [GT_TLS_DIAL_HANDSHAKE] = {"handshake", 10., "no answer to the TLS handshake"},
    [GT_TLS_DIAL_DONE] = {"done", 0., ""},
};

static ev_tstamp tls_dial_limit(const struct gt_tls_dial *tls_dial)
{
    ev_tstamp limit = states[tls_dial->state].limit;

    if (tls_dial->state != GT_TLS_DIAL_CONNECTING)
        limit = GT_MIN(limit, tls_dial->give_up_at - gt_clock());
    return GT_MAX(limit, 1e-6);
}

static void tls_dial_enter(struct gt_tls_dial *tls_dial, enum gt_tls_dial_state state)
{
    gt_debug("control=%s %s -> %s", tls_dial->identity, states[tls_dial->state].name,
             states[state].name);
    tls_dial->state = state;
    if (state == GT_TLS_DIAL_DONE) {
        gt_wipe(tls_dial->psk, sizeof(tls_dial->psk));
        gt_wipe(tls_dial->proxy_handshake.out, sizeof(tls_dial->proxy_handshake.out));
        ev_io_stop(tls_dial->loop, &tls_dial->io);
        ev_timer_stop(tls_dial->loop, &tls_dial->deadline);
    } else {
        tls_dial->deadline.repeat = tls_dial_limit(tls_dial);
        ev_timer_again(tls_dial->loop, &tls_dial->deadline);
    }
}

void gt_tls_dial_cancel(struct gt_tls_dial *tls_dial)
{
    if (tls_dial->state == GT_TLS_DIAL_DONE)
        return;
    tls_dial_enter(tls_dial, GT_TLS_DIAL_DONE);
    tls_dial->dial = gt_dial_free(tls_dial->dial);
    if (tls_dial->tls)
        gt_tls_close(tls_dial->tls); /* it may have an alert to send */
    tls_dial->tls = gt_tls_free(tls_dial->tls);
    gt_close(&tls_dial->fd);
}

/* The last action of any handler. @why may be part of the TLS connection. */
static void tls_dial_fail(struct gt_tls_dial *tls_dial, enum gt_end_reason reason, const char *why)
{
    char copy[GT_PROXY_HANDSHAKE_WHY];

    snprintf(copy, sizeof(copy), "%s", why);
    gt_tls_dial_cancel(tls_dial);
    tls_dial->events.on_failed(tls_dial->userdata, reason, copy);
}

/* --- the handshake ---------------------------------------------------------------------------- */

static void tls_dial_succeed(struct gt_tls_dial *tls_dial)
{
    gt_debug("control=%s suite=%s", tls_dial->identity, gt_tls_suite(tls_dial->tls));
    tls_dial_enter(tls_dial, GT_TLS_DIAL_DONE);
    tls_dial->events.on_connected(tls_dial->userdata, gt_steal_fd(&tls_dial->fd),
                                  gt_steal(&tls_dial->tls), &tls_dial->addr);
}

static void tls_dial_watch(struct gt_tls_dial *tls_dial, int interest)
{
    ev_io_stop(tls_dial->loop, &tls_dial->io);
    ev_io_set(&tls_dial->io, tls_dial->fd, interest);
    ev_io_start(tls_dial->loop, &tls_dial->io);
}

static void tls_dial_handshake(struct gt_tls_dial *tls_dial)
{
    int r = gt_tls_handshake(tls_dial->tls);
    char why[192 + GT_PROXY_NAME], name[GT_PROXY_NAME], suspicion[64 + GT_PROXY_NAME] = "";

    if (tls_dial->proxy)
        snprintf(suspicion, sizeof(suspicion), ", or proxy %s intercepts TLS",
                 gt_proxy_name(tls_dial->proxy, name));
    if (r == 0) {
        tls_dial_succeed(tls_dial);
    } else if (r == GT_TLS_E_AGAIN) {
        tls_dial_watch(tls_dial, EV_READ | (gt_tls_wants_write(tls_dial->tls) ? EV_WRITE : 0));
    } else if (gt_tls_is_refused(tls_dial->tls)) {
        snprintf(why, sizeof(why), "the relay rejected the handshake, probably a wrong key%s (%s)",
                 suspicion, gt_tls_why(tls_dial->tls));
        tls_dial_fail(tls_dial, GT_END_REFUSED, why);
    } else {
        snprintf(why, sizeof(why), "TLS handshake failed%s: %s", suspicion,
                 gt_tls_why(tls_dial->tls));
        tls_dial_fail(tls_dial, GT_END_UNREACHABLE, why);
    }
}

static void tls_dial_begin_tls(struct gt_tls_dial *tls_dial)
{
    if (gt_tls_new_client(tls_dial->context, tls_dial->fd, gt_span_text(tls_dial->identity),
                          tls_dial->psk, &tls_dial->tls)) {
        tls_dial_fail(tls_dial, GT_END_INTERNAL, "out of memory");
        return;
    }
    tls_dial_enter(tls_dial, GT_TLS_DIAL_HANDSHAKE);
    tls_dial_handshake(tls_dial);
}

/* --- the proxy -------------------------------------------------------------------------------- */

static void tls_dial_continue_proxy(struct gt_tls_dial *tls_dial)
{
    struct gt_proxy_handshake *handshake = &tls_dial->proxy_handshake;
    int r = gt_proxy_handshake_run(handshake, tls_dial->fd);

    if (r == 0)
        tls_dial_begin_tls(tls_dial);
    else if (r == GT_PROXY_HANDSHAKE_E_FAILED)
        tls_dial_fail(tls_dial, handshake->is_denied ? GT_END_PROXY : GT_END_UNREACHABLE,
                      handshake->why);
    else
        tls_dial_watch(tls_dial, r == GT_PROXY_HANDSHAKE_E_READ ? EV_READ : EV_WRITE);
}

static void tls_dial_on_io(struct ev_loop *loop, ev_io *w, int revents)
{
    struct gt_tls_dial *tls_dial = w->data;

    if (tls_dial->state == GT_TLS_DIAL_PROXY)
        tls_dial_continue_proxy(tls_dial);
    else
        tls_dial_handshake(tls_dial);
}

static void tls_dial_on_deadline(struct ev_loop *loop, ev_timer *w, int revents)
{
    struct gt_tls_dial *tls_dial = w->data;

    if (ev_is_pending(&tls_dial->io)) /* this process did not run for a while */
        return;
    const char *why = states[tls_dial->state].why;
    if (tls_dial->state == GT_TLS_DIAL_PROXY) {
        gt_proxy_handshake_expire(&tls_dial->proxy_handshake);
        why = tls_dial->proxy_handshake.why;
    }
    tls_dial_fail(tls_dial, GT_END_UNREACHABLE, why);
}

/* --- the dial --------------------------------------------------------------------------------- */

static void tls_dial_fail_dial(struct gt_tls_dial *tls_dial, const char *why)
{
    char with_proxy[256 + GT_PROXY_NAME], name[GT_PROXY_NAME];

    if (tls_dial->proxy) {
        snprintf(with_proxy, sizeof(with_proxy), "proxy %s: %.200s",
                 gt_proxy_name(tls_dial->proxy, name), why);
        why = with_proxy;
    }
    tls_dial_fail(tls_dial, GT_END_UNREACHABLE, why);
}

static void tls_dial_on_dial_done(void *userdata, int fd, const struct gt_addr *addr,
                                  const char *why)
{
    struct gt_tls_dial *tls_dial = userdata;

    if (fd < 0) {
        tls_dial_fail_dial(tls_dial, why);
        return;
    }
    tls_dial->fd = fd;
    tls_dial->addr = *addr;
    tls_dial->dial = gt_dial_free(tls_dial->dial);
    gt_sock_set_timeout(fd, USER_TIMEOUT_S);
    if (!tls_dial->proxy) {
        tls_dial_begin_tls(tls_dial);
        return;
    }
    gt_addr_set_port(&tls_dial->addr, tls_dial->to.port);
    gt_proxy_handshake_init(&tls_dial->proxy_handshake, tls_dial->proxy, &tls_dial->to);
    tls_dial_enter(tls_dial, GT_TLS_DIAL_PROXY);
    tls_dial_continue_proxy(tls_dial);
}

void gt_tls_dial_check(struct gt_tls_dial *tls_dial)
{
    if (tls_dial->dial)
        gt_dial_check(tls_dial->dial);
    if (tls_dial->fd >= 0 && gt_route_check_socket(tls_dial->fd, &tls_dial->addr) == GT_ROUTE_GONE)
        tls_dial_fail(tls_dial, GT_END_UNREACHABLE, "the network has gone");
}

/* --- start and end ---------------------------------------------------------------------------- */

/* Connects to the relay, or to the proxy. */
static int tls_dial_start(struct gt_tls_dial *tls_dial, unsigned timeout_ms)
{
    struct gt_host_port to = tls_dial->to;

    if (tls_dial->proxy) {
        memcpy(to.host, tls_dial->proxy->host, sizeof(to.host));
        to.port = tls_dial->proxy->port;
    }
    return gt_dial_new(tls_dial->loop, &to, timeout_ms, tls_dial_on_dial_done, tls_dial,
                       &tls_dial->dial);
}

int gt_tls_dial_init(struct gt_tls_dial *tls_dial, struct ev_loop *loop,
                     const struct gt_tls_dial_settings *settings,
                     const struct gt_tls_dial_events *events, void *userdata)
{
    *tls_dial = (struct gt_tls_dial){
        .loop = loop,
        .events = *events,
        .userdata = userdata,
        .identity = settings->identity,
        .proxy = settings->proxy,
        .to = *settings->to,
        .give_up_at = gt_clock() + settings->timeout_ms / 1000.,
        .fd = -1,
    };
    memcpy(tls_dial->psk, settings->psk, sizeof(tls_dial->psk));
    ev_init(&tls_dial->io, tls_dial_on_io);
    ev_init(&tls_dial->deadline, tls_dial_on_deadline);
    tls_dial->io.data = tls_dial->deadline.data = tls_dial;
    int r = gt_tls_context_new(GT_TLS_CLIENT, GT_CONTROL_ALPN, &tls_dial->context);
    if (r == 0)
        r = tls_dial_start(tls_dial, settings->timeout_ms);
    if (r == 0)
        gt_dial_set_segment(tls_dial->dial, SEGMENT);
    if (r == 0)
        tls_dial_enter(tls_dial, GT_TLS_DIAL_CONNECTING);
    return r;
}

void gt_tls_dial_permit_large_segments(struct gt_tls_dial *tls_dial)
{
    gt_dial_set_segment(tls_dial->dial, 0);
}

void gt_tls_dial_deinit(struct gt_tls_dial *tls_dial)
{
    if (!tls_dial->loop)
        return;
    gt_tls_dial_cancel(tls_dial);
    tls_dial->context = gt_tls_context_free(tls_dial->context);
}
