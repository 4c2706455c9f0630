/* SPDX-License-Identifier: ISC */
/*
 * DIALING -> SENDING -> AWAITING -> ENDED. HELLO and the parts leave as fast as the relay reads
 * them. A PING follows the last part: the relay handles frames in order, so that a PONG without an
 * answer before it shows that none will come.
 */
#include "gotthard/relay/access-delivery.h"

#include <stdio.h>

#include "gotthard/base/log.h"
#include "gotthard/crypto/key.h"
#include "gotthard/relay/framed-connection.h"
#include "gotthard/relay/tls-dial.h"

#define PER_PART_S     .02
#define READS_PER_TURN 8
#define PING           1 /* the number in it */

enum delivery_state {
    DELIVERY_DIALING,
    DELIVERY_SENDING,  /* HELLO and parts */
    DELIVERY_AWAITING, /* PING was queued */
    DELIVERY_ENDED,
};

struct gt_access_delivery {
    struct ev_loop *loop;
    enum delivery_state state;
    struct gt_access_delivery_events events;
    void *userdata;
    char identity[GT_IDENTITY_MAX + 1];
    struct gt_tls_dial tls_dial;
    struct gt_framed_connection framed; /* connected from SENDING on */
    size_t n_parts, n_queued;
    double answer_s; /* time limit of SENDING and AWAITING together */
    ev_io io;
    ev_timer deadline;
    char why[GT_PROXY_HANDSHAKE_WHY];
};

/* --- the end ---------------------------------------------------------------------------------- */

static void delivery_close(struct gt_access_delivery *delivery)
{
    delivery->state = DELIVERY_ENDED;
    ev_io_stop(delivery->loop, &delivery->io);
    ev_timer_stop(delivery->loop, &delivery->deadline);
    gt_tls_dial_cancel(&delivery->tls_dial);
    gt_framed_connection_disconnect(&delivery->framed);
}

/* @why may be part of the TLS connection. */
static void delivery_fail(struct gt_access_delivery *delivery, enum gt_end_reason reason,
                          enum gt_code code, const char *why)
{
    if (delivery->state == DELIVERY_ENDED)
        return;
    snprintf(delivery->why, sizeof(delivery->why), "%s", why);
    delivery_close(delivery);
    delivery->events.on_failed(delivery->userdata, reason, code, delivery->why);
}

static void delivery_on_deadline(struct ev_loop *loop, ev_timer *timer, int revents)
{
    delivery_fail(timer->data, GT_END_LOST, GT_CODE_NONE, "no answer from the relay in time");
}

/* --- frames of the relay ---------------------------------------------------------------------- */

static void delivery_on_welcome(struct gt_access_delivery *delivery,
                                const struct gt_control_frame *frame)
{
    if (frame->welcome.version != GT_CONTROL_VERSION)
        delivery_fail(delivery, GT_END_RELAY, GT_CODE_VERSION, gt_code_text(GT_CODE_VERSION));
}

static void delivery_on_effect(struct gt_access_delivery *delivery,
                               const struct gt_control_frame *frame)
{
    const struct gt_access_effect effect = frame->effect;

    delivery_close(delivery);
    delivery->events.on_answer(delivery->userdata, &effect);
}

static void delivery_on_ping(struct gt_access_delivery *delivery,
                             const struct gt_control_frame *frame)
{
    struct gt_control_frame pong = {.type = GT_CONTROL_PONG, .ping = frame->ping};

    if (gt_framed_connection_queue(&delivery->framed, &pong, 0) != 0)
        gt_debug("control=%s no room for a PONG", delivery->identity);
}

static void delivery_on_pong(struct gt_access_delivery *delivery,
                             const struct gt_control_frame *frame)
{
    if (delivery->state == DELIVERY_AWAITING)
        delivery_fail(delivery, GT_END_CLOSED, GT_CODE_NONE, "the relay sends no answer");
}

static void delivery_on_code(struct gt_access_delivery *delivery,
                             const struct gt_control_frame *frame)
{
    delivery_fail(delivery, gt_end_reason_of_code(frame->code), frame->code,
                  gt_code_text(frame->code));
}

/* RESTARTING announces a loss, and LIMIT has details of an ERROR: both are ignored. */
static void delivery_on_nothing(struct gt_access_delivery *delivery,
                                const struct gt_control_frame *frame)
{
}

static void delivery_handle(struct gt_access_delivery *delivery,
                            const struct gt_control_frame *frame)
{
    static const struct {
        enum gt_control_type type;
        void (*handle)(struct gt_access_delivery *delivery, const struct gt_control_frame *frame);
    } rows[] = {
        {GT_CONTROL_WELCOME, delivery_on_welcome}, {GT_CONTROL_PING, delivery_on_ping},
        {GT_CONTROL_PONG, delivery_on_pong},       {GT_CONTROL_BYE, delivery_on_code},
        {GT_CONTROL_ERROR, delivery_on_code},      {GT_CONTROL_RESTARTING, delivery_on_nothing},
        {GT_CONTROL_EFFECT, delivery_on_effect},   {GT_CONTROL_LIMIT, delivery_on_nothing},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(rows); i++)
        if (rows[i].type == frame->type) {
            rows[i].handle(delivery, frame);
            return;
        }
    delivery_fail(delivery, GT_END_RELAY, GT_CODE_PROTOCOL, "the relay broke the protocol");
}

/* --- receiving -------------------------------------------------------------------------------- */

/* Handles all frames in the receive buffer. Returns 0 or E_BAD. */
static int delivery_handle_frames(struct gt_access_delivery *delivery)
{
    struct gt_control_frame frame;
    int r = 0;

    while (r == 0 && delivery->state != DELIVERY_ENDED) {
        r = gt_framed_connection_decode(&delivery->framed, &frame);
        if (r == 0)
            delivery_handle(delivery, &frame);
    }
    return r == GT_FRAMED_CONNECTION_E_AGAIN ? 0 : r;
}

static void delivery_receive(struct gt_access_delivery *delivery)
{
    int r = 0;

    for (unsigned n = 0; r == 0 && n < READS_PER_TURN && delivery->state != DELIVERY_ENDED; n++) {
        r = gt_framed_connection_read(&delivery->framed);
        if (r == 0)
            r = delivery_handle_frames(delivery);
    }
    if (r == GT_FRAMED_CONNECTION_E_CLOSED)
        delivery_fail(delivery, GT_END_LOST, GT_CODE_NONE, "the relay closed the connection");
    else if (r == GT_FRAMED_CONNECTION_E_BROKEN)
        delivery_fail(delivery, GT_END_LOST, GT_CODE_NONE, gt_tls_why(delivery->framed.tls));
    else if (r == GT_FRAMED_CONNECTION_E_BAD)
        delivery_fail(delivery, GT_END_RELAY, GT_CODE_PROTOCOL, "the relay sent a malformed frame");
}

/* --- sending ---------------------------------------------------------------------------------- */

/* Makes the next frame: a part, or PING after the last one. */
static bool delivery_make(struct gt_access_delivery *delivery, struct gt_control_frame *ret,
                          uint8_t part[static GT_CONTROL_PART_MAX])
{
    size_t n = 0;

    *ret = (struct gt_control_frame){.type = GT_CONTROL_PING, .ping = PING};
    if (delivery->n_queued == delivery->n_parts)
        return true;
    ret->type = GT_CONTROL_ACCESS;
    if (!delivery->events.make_part(delivery->userdata, delivery->n_queued, part, &n))
        return false;
    ret->access = gt_span(part, n);
    return true;
}

/* Queues frames as far as there is room. Returns false if there is none, or if a part cannot be
 * made. */
static bool delivery_queue(struct gt_access_delivery *delivery)
{
    uint8_t part[GT_CONTROL_PART_MAX];
    struct gt_control_frame frame;
    size_t n_before = delivery->n_queued;

    while (delivery->state == DELIVERY_SENDING) {
        if (!delivery_make(delivery, &frame, part))
            return false;
        if (gt_framed_connection_queue(&delivery->framed, &frame, 0) != 0)
            break;
        if (frame.type == GT_CONTROL_PING)
            delivery->state = DELIVERY_AWAITING;
        else
            delivery->n_queued++;
    }
    return delivery->n_queued > n_before || delivery->state == DELIVERY_AWAITING;
}

/* Sends until the socket takes no more. Returns false if the connection broke. */
static bool delivery_send(struct gt_access_delivery *delivery)
{
    struct gt_framed_connection *framed = &delivery->framed;
    bool is_good = gt_framed_connection_flush(framed) == 0;

    while (is_good && delivery->state == DELIVERY_SENDING &&
           !gt_framed_connection_wants_write(framed)) {
        if (!delivery_queue(delivery)) {
            delivery_fail(delivery, GT_END_INTERNAL, GT_CODE_NONE, "a part cannot be made");
            return true;
        }
        is_good = gt_framed_connection_flush(framed) == 0;
    }
    return is_good;
}

/* --- the connection --------------------------------------------------------------------------- */

static void delivery_watch(struct gt_access_delivery *delivery)
{
    int events = EV_READ;

    if (delivery->state == DELIVERY_ENDED)
        return;
    if (gt_framed_connection_wants_write(&delivery->framed))
        events |= EV_WRITE;
    ev_io_stop(delivery->loop, &delivery->io);
    ev_io_set(&delivery->io, delivery->framed.fd, events);
    ev_io_start(delivery->loop, &delivery->io);
    /* For bytes inside TLS the socket does not become readable. */
    if (gt_framed_connection_has_pending(&delivery->framed))
        ev_feed_event(delivery->loop, &delivery->io, EV_READ);
}

/* Reads even if sending has failed: the relay's last frame has the reason. */
static void delivery_on_io(struct ev_loop *loop, ev_io *io, int revents)
{
    struct gt_access_delivery *delivery = io->data;
    bool is_good = delivery_send(delivery);

    if (delivery->state != DELIVERY_ENDED)
        delivery_receive(delivery);
    if (delivery->state != DELIVERY_ENDED && !is_good)
        delivery_fail(delivery, GT_END_LOST, GT_CODE_NONE, gt_tls_why(delivery->framed.tls));
    else if (delivery->state != DELIVERY_ENDED &&
             gt_framed_connection_has_unsent(&delivery->framed))
        delivery_send(delivery); /* a PONG */
    delivery_watch(delivery);
}

static void delivery_on_connected(void *userdata, int fd, struct gt_tls *tls,
                                  const struct gt_addr *addr)
{
    struct gt_access_delivery *delivery = userdata;

    gt_framed_connection_attach(&delivery->framed, fd, tls);
    delivery->state = DELIVERY_SENDING;
    ev_now_update(delivery->loop);
    ev_timer_set(&delivery->deadline, delivery->answer_s, 0.);
    ev_timer_start(delivery->loop, &delivery->deadline);
    delivery_watch(delivery);
    ev_feed_event(delivery->loop, &delivery->io, EV_WRITE);
}

static void delivery_on_dial_failed(void *userdata, enum gt_end_reason reason, const char *why)
{
    delivery_fail(userdata, reason, GT_CODE_NONE, why);
}

/* --- creation --------------------------------------------------------------------------------- */

static int delivery_queue_hello(struct gt_access_delivery *delivery)
{
    struct gt_control_frame hello = gt_control_hello();

    return gt_framed_connection_queue(&delivery->framed, &hello, 0) ? -ENOMEM : 0;
}

static int delivery_dial(struct gt_access_delivery *delivery,
                         const struct gt_access_delivery_settings *settings)
{
    static const struct gt_tls_dial_events events = {
        .on_connected = delivery_on_connected,
        .on_failed = delivery_on_dial_failed,
    };
    const struct gt_tls_dial_settings dial = {
        .to = settings->relay,
        .proxy = settings->proxy,
        .identity = delivery->identity,
        .psk = settings->client_key,
        .timeout_ms = settings->timeout_ms,
    };

    return gt_tls_dial_init(&delivery->tls_dial, delivery->loop, &dial, &events, delivery);
}

int gt_access_delivery_new(struct ev_loop *loop, const struct gt_access_delivery_settings *settings,
                           const struct gt_access_delivery_events *events, void *userdata,
                           struct gt_access_delivery **ret)
{
    struct gt_access_delivery *delivery = calloc(1, sizeof(*delivery));

    if (!delivery)
        return -ENOMEM;
    ev_now_update(loop);
    delivery->loop = loop;
    delivery->events = *events;
    delivery->userdata = userdata;
    delivery->n_parts = settings->n_parts;
    delivery->answer_s = settings->timeout_ms / 1e3 + PER_PART_S * (double)settings->n_parts;
    gt_framed_connection_init(&delivery->framed);
    gt_key_identity(GT_ROLE_OPERATOR, settings->name, delivery->identity);
    ev_init(&delivery->io, delivery_on_io);
    ev_init(&delivery->deadline, delivery_on_deadline);
    delivery->io.data = delivery->deadline.data = delivery;
    int r = delivery_queue_hello(delivery);
    if (r == 0)
        r = delivery_dial(delivery, settings);
    if (r != 0) {
        gt_access_delivery_free(delivery);
        return r < 0 ? r : -EINVAL;
    }
    *ret = delivery;
    return 0;
}

struct gt_access_delivery *gt_access_delivery_free(struct gt_access_delivery *delivery)
{
    if (!delivery)
        return NULL;
    delivery_close(delivery);
    gt_tls_dial_deinit(&delivery->tls_dial);
    gt_framed_connection_deinit(&delivery->framed);
    free(delivery);
    return NULL;
}
