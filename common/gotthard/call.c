/* SPDX-License-Identifier: ISC */
/*
 * Two steps with one time limit over both. What a failure means is decided here, because only here
 * it is known how far the call came: a relay that refused us is not one that was not to be reached.
 */
#include "gotthard/call.h"

#include <stdio.h>
#include <string.h>

#include "gotthard/clock.h"
#include "gotthard/control.h"
#include "gotthard/dial.h"
#include "gotthard/log.h"
#include "gotthard/way.h"

#define DEAD_S 45 /* the kernel's patience: the relay reads its members always */

static const struct {
    const char *name;
    ev_tstamp limit; /* but not beyond give_up_at; 0: none */
    const char *why;
} states[] = {
    [GT_CALL_DIALLING] = {"dialling", 3600., "no answer"}, /* dial tells first */
    [GT_CALL_HANDSHAKE] = {"handshake", 10., "no answer to the handshake"},
    [GT_CALL_OVER] = {"over", 0., ""},
};

static ev_tstamp call_limit(const struct gt_call *call)
{
    ev_tstamp limit = states[call->state].limit;
    if (call->state == GT_CALL_HANDSHAKE)
        limit = GT_MIN(limit, call->give_up_at - gt_clock());
    return GT_MAX(limit, 1e-6);
}

static void call_enter(struct gt_call *call, enum gt_call_state state)
{
    gt_debug("link=%.8s %s -> %s", call->identity, states[call->state].name, states[state].name);
    call->state = state;
    if (state == GT_CALL_OVER) {
        gt_wipe(call->psk, sizeof call->psk);
        ev_io_stop(call->loop, &call->io);
        ev_timer_stop(call->loop, &call->deadline);
    } else {
        call->deadline.repeat = call_limit(call);
        ev_timer_again(call->loop, &call->deadline);
    }
}

void gt_call_cancel(struct gt_call *call)
{
    if (call->state == GT_CALL_OVER)
        return;
    call_enter(call, GT_CALL_OVER);
    call->dial = gt_dial_cancel(call->dial);
    if (call->tls)
        gt_tls_close(call->tls); /* it may have to say why */
    call->tls = gt_tls_free(call->tls);
    gt_close(&call->fd);
}

/* The last thing any handler does. */
static void call_fail(struct gt_call *call, enum gt_down cause, const char *why)
{
    char kept[160]; /* @why may live inside tls */
    snprintf(kept, sizeof kept, "%s", why);
    gt_call_cancel(call);
    call->events.on_failed(call->userdata, cause, kept);
}

/* --- the handshake ---------------------------------------------------------------------------- */

static void call_answered(struct gt_call *call)
{
    gt_debug("link=%.8s suite=%s", call->identity, gt_tls_suite(call->tls));
    call_enter(call, GT_CALL_OVER);
    call->events.on_answered(call->userdata, gt_steal_fd(&call->fd), gt_steal(&call->tls),
                             &call->addr);
}

static void call_watch(struct gt_call *call)
{
    int interest = EV_READ | (gt_tls_wants_write(call->tls) ? EV_WRITE : 0);
    ev_io_stop(call->loop, &call->io);
    ev_io_set(&call->io, call->fd, interest);
    ev_io_start(call->loop, &call->io);
}

static void call_shake(struct gt_call *call)
{
    int r = gt_tls_handshake(call->tls);
    char why[128];
    if (r == 0) {
        call_answered(call);
    } else if (r == GT_TLS_E_AGAIN) {
        call_watch(call);
    } else if (gt_tls_is_refused(call->tls)) {
        snprintf(why, sizeof why, "the relay refused the handshake: wrong key? (%s)",
                 gt_tls_why(call->tls));
        call_fail(call, GT_DOWN_REFUSED, why);
    } else {
        snprintf(why, sizeof why, "the handshake came to nothing: %s", gt_tls_why(call->tls));
        call_fail(call, GT_DOWN_UNREACHABLE, why);
    }
}

static void call_on_io(struct ev_loop *loop, ev_io *w, int revents)
{
    call_shake(w->data);
}

static void call_on_deadline(struct ev_loop *loop, ev_timer *w, int revents)
{
    struct gt_call *call = w->data;
    if (!ev_is_pending(&call->io)) /* else this process slept, not the relay */
        call_fail(call, GT_DOWN_UNREACHABLE, states[call->state].why);
}

/* --- the dial --------------------------------------------------------------------------------- */

static void call_on_dialled(void *userdata, int fd, const struct gt_addr *addr, const char *why)
{
    struct gt_call *call = userdata;
    call->dial = NULL; /* it frees itself */
    if (fd < 0) {
        call_fail(call, GT_DOWN_UNREACHABLE, why);
        return;
    }
    call->fd = fd;
    call->addr = *addr;
    gt_sock_set_timeout(fd, DEAD_S);
    if (gt_tls_new_client(call->context, fd, gt_span_text(call->identity), call->psk, &call->tls)) {
        call_fail(call, GT_DOWN_INTERNAL, "out of memory");
        return;
    }
    call_enter(call, GT_CALL_HANDSHAKE);
    call_shake(call);
}

void gt_call_check(struct gt_call *call)
{
    if (call->dial)
        gt_dial_check(call->dial);
    if (call->fd >= 0 && gt_way_of(call->fd, &call->addr) == GT_WAY_GONE)
        call_fail(call, GT_DOWN_UNREACHABLE, "the network has gone");
}

/* --- life ------------------------------------------------------------------------------------- */

int gt_call_init(struct gt_call *call, struct ev_loop *loop, const char *host, uint16_t port,
                 const char *identity, const uint8_t *psk, unsigned timeout_ms,
                 const struct gt_call_events *events, void *userdata)
{
    *call = (struct gt_call){
        .loop = loop,
        .events = *events,
        .userdata = userdata,
        .identity = identity,
        .give_up_at = gt_clock() + timeout_ms / 1000.,
        .fd = -1,
    };
    memcpy(call->psk, psk, sizeof call->psk);
    ev_init(&call->io, call_on_io);
    ev_init(&call->deadline, call_on_deadline);
    call->io.data = call->deadline.data = call;
    int r = gt_tls_context_new(GT_TLS_CLIENT, GT_CONTROL_ALPN, &call->context);
    if (r == 0)
        r = gt_dial_new(loop, host, port, timeout_ms, call_on_dialled, call, &call->dial);
    if (r == 0)
        call_enter(call, GT_CALL_DIALLING);
    return r;
}

void gt_call_deinit(struct gt_call *call)
{
    if (!call->loop)
        return;
    gt_call_cancel(call);
    call->context = gt_tls_context_free(call->context);
}
