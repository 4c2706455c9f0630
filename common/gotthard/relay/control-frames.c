/* SPDX-License-Identifier: ISC */
/*
 * The frames of a control connection (docs/protocol.md section 3): those that the client sends, and
 * one row for each that a relay may send. A frame out of order must never reach its handler.
 */
#include "gotthard/base/log.h"
#include "gotthard/relay/control-internal.h"

/* --- sending ---------------------------------------------------------------------------------- */

int gt_control_connection_queue(struct gt_control_connection *control,
                                const struct gt_control_frame *frame, size_t reserved)
{
    if (gt_framed_connection_queue(&control->framed, frame, reserved) != 0)
        return GT_CONTROL_CONNECTION_E_FULL;
    gt_control_connection_watch(control);
    return 0;
}

struct gt_control_frame gt_control_connection_frame(const struct gt_control_connection *control,
                                                    enum gt_control_type type)
{
    struct gt_control_frame frame = {.type = type};

    memcpy(frame.rid, control->rid, sizeof(frame.rid));
    return frame;
}

/* Queues a frame of the session, in any state before BYE. */
static int control_send(struct gt_control_connection *control, const struct gt_control_frame *frame)
{
    if (control->state >= CONTROL_CLOSING)
        return GT_CONTROL_CONNECTION_E_OVER;
    return gt_control_connection_queue(control, frame, GT_CONTROL_CONNECTION_RESERVED);
}

int gt_control_connection_request_ticket(struct gt_control_connection *control, uint32_t stream,
                                         uint32_t attempt, uint16_t segment)
{
    struct gt_control_frame frame = gt_control_connection_frame(control, GT_CONTROL_OPEN);

    frame.open.stream = stream;
    frame.open.attempt = attempt;
    frame.open.segment = segment;
    return control_send(control, &frame);
}

int gt_control_connection_set_load(struct gt_control_connection *control, uint32_t n_streams)
{
    struct gt_control_frame frame = gt_control_connection_frame(control, GT_CONTROL_LOAD);

    frame.load = n_streams;
    return control_send(control, &frame);
}

int gt_control_connection_stream_end(struct gt_control_connection *control, uint32_t stream,
                                     uint32_t attempt, unsigned code, uint64_t n_up,
                                     uint64_t n_down)
{
    struct gt_control_frame frame = gt_control_connection_frame(control, GT_CONTROL_STREAM_END);

    frame.stream_end.stream = stream;
    frame.stream_end.attempt = attempt;
    frame.stream_end.code = (uint16_t)code;
    frame.stream_end.n_up = n_up;
    frame.stream_end.n_down = n_down;
    return control_send(control, &frame);
}

int gt_control_connection_queue_hello(struct gt_control_connection *control)
{
    struct gt_control_frame hello = gt_control_hello();

    return gt_control_connection_queue(control, &hello, 0);
}

int gt_control_connection_queue_rendezvous(struct gt_control_connection *control,
                                           const struct gt_control_connection_settings *settings)
{
    memcpy(control->rid, settings->rid, sizeof(control->rid));
    control->has_session = true;
    struct gt_control_frame rendezvous =
        gt_control_connection_frame(control, GT_CONTROL_RENDEZVOUS);
    rendezvous.rendezvous.generation = settings->generation;
    rendezvous.rendezvous.port_hint = settings->port_hint;
    rendezvous.rendezvous.ttl_s = settings->ttl_s;
    return gt_control_connection_queue(control, &rendezvous, 0);
}

/* --- frames of the relay ---------------------------------------------------------------------- */

static void control_on_welcome(struct gt_control_connection *control,
                               const struct gt_control_frame *frame)
{
    if (frame->welcome.version != GT_CONTROL_VERSION) {
        gt_control_connection_end(control, GT_END_RELAY, GT_CODE_VERSION,
                                  gt_code_text(GT_CODE_VERSION));
        return;
    }
    gt_heartbeat_set_interval(&control->heartbeat, frame->welcome.heartbeat_ms);
    gt_control_connection_enter(control,
                                control->has_session ? CONTROL_REGISTERING : CONTROL_PREPARED);
}

static void control_on_session(struct gt_control_connection *control,
                               const struct gt_control_frame *frame)
{
    if (control->state == CONTROL_REGISTERING)
        gt_control_connection_enter(control, CONTROL_UP);
    control->events.on_session(control->userdata, &control->addr, frame->session.port,
                               frame->session.is_peer_up);
}

static void control_on_peer(struct gt_control_connection *control,
                            const struct gt_control_frame *frame)
{
    control->events.on_peer(control->userdata, frame->peer.is_up, frame->peer.reason);
}

static void control_on_ticket(struct gt_control_connection *control,
                              const struct gt_control_frame *frame)
{
    control->events.on_ticket(control->userdata, &frame->ticket);
}

static void control_on_stream_end(struct gt_control_connection *control,
                                  const struct gt_control_frame *frame)
{
    control->events.on_stream_end(control->userdata, frame->stream_end.stream,
                                  frame->stream_end.attempt, frame->stream_end.code);
}

static void control_on_ping(struct gt_control_connection *control,
                            const struct gt_control_frame *frame)
{
    struct gt_control_frame pong = {.type = GT_CONTROL_PONG, .ping = frame->ping};

    if (gt_control_connection_queue(control, &pong, 0) != 0)
        gt_control_connection_fail_protocol(control, "the relay does not read");
}

static void control_on_pong(struct gt_control_connection *control,
                            const struct gt_control_frame *frame)
{
    gt_heartbeat_received_pong(&control->heartbeat, frame->ping);
}

static void control_on_restarting(struct gt_control_connection *control,
                                  const struct gt_control_frame *frame)
{
    control->events.on_restart_notice(control->userdata, frame->restarting.reconnect_in_ms,
                                      frame->restarting.try_for_ms);
}

static void control_on_bye(struct gt_control_connection *control,
                           const struct gt_control_frame *frame)
{
    enum gt_code code = frame->code;
    uint32_t value = code == control->limit ? control->limit_value : 0;

    gt_control_connection_end(control, gt_end_reason_of_code(code), code,
                              gt_code_limit_text(code, value));
}

static void control_on_limit(struct gt_control_connection *control,
                             const struct gt_control_frame *frame)
{
    control->limit = frame->limit.code;
    control->limit_value = frame->limit.value;
}

static void control_on_error(struct gt_control_connection *control,
                             const struct gt_control_frame *frame)
{
    if (frame->code == GT_CODE_LIMIT && control->state == CONTROL_UP) {
        /* One stream gets no ticket; the others continue. */
        gt_debug("control=%s one stream is over the relay's limit", control->identity);
        return;
    }
    control_on_bye(control, frame);
}

/* The frames that a relay may send, and in which states. A row with @is_session needs our rid. */
static const struct frame_row {
    enum gt_control_type type;
    enum control_state from, to;
    bool is_session;
    void (*handle)(struct gt_control_connection *control, const struct gt_control_frame *frame);
} frames[] = {
    {GT_CONTROL_WELCOME, CONTROL_HELLO_SENT, CONTROL_HELLO_SENT, false, control_on_welcome},
    {GT_CONTROL_SESSION, CONTROL_REGISTERING, CONTROL_UP, true, control_on_session},
    {GT_CONTROL_PEER, CONTROL_UP, CONTROL_UP, true, control_on_peer},
    {GT_CONTROL_TICKET, CONTROL_UP, CONTROL_UP, true, control_on_ticket},
    {GT_CONTROL_STREAM_END, CONTROL_UP, CONTROL_UP, true, control_on_stream_end},
    {GT_CONTROL_PING, CONTROL_HELLO_SENT, CONTROL_UP, false, control_on_ping},
    {GT_CONTROL_PONG, CONTROL_HELLO_SENT, CONTROL_UP, false, control_on_pong},
    {GT_CONTROL_RESTARTING, CONTROL_HELLO_SENT, CONTROL_UP, false, control_on_restarting},
    {GT_CONTROL_BYE, CONTROL_HELLO_SENT, CONTROL_UP, false, control_on_bye},
    {GT_CONTROL_ERROR, CONTROL_HELLO_SENT, CONTROL_UP, false, control_on_error},
    {GT_CONTROL_LIMIT, CONTROL_HELLO_SENT, CONTROL_UP, false, control_on_limit},
};

static const struct frame_row *find_frame_row(enum gt_control_type type)
{
    for (size_t i = 0; i < GT_ARRAY_SIZE(frames); i++)
        if (frames[i].type == type)
            return &frames[i];
    return NULL;
}

void gt_control_connection_handle_frame(struct gt_control_connection *control,
                                        const struct gt_control_frame *frame)
{
    const struct frame_row *row = find_frame_row(frame->type);

    if (!row || control->state < row->from || control->state > row->to ||
        (row->is_session && memcmp(frame->rid, control->rid, sizeof(control->rid)) != 0))
        gt_control_connection_fail_protocol(control, "the relay broke the protocol");
    else
        row->handle(control, frame);
}
