/* SPDX-License-Identifier: ISC */
/*
 * The frames that a session sends to its clients. A frame to an absent client is dropped.
 */
#include "control/session-internal.h"

void session_send(struct session *session, struct client *to, struct gt_control_frame *frame)
{
    if (!to)
        return;
    memcpy(frame->rid, session->rendezvous.rid, GT_RID_SIZE);
    client_send(to, frame);
}

void session_send_session(struct session *session, struct client *to)
{
    uint64_t now = gt_clock_ms(), expires_at = session->rendezvous.expires_at;
    struct gt_control_frame frame = {.type = GT_CONTROL_SESSION};

    frame.session.port = session->rendezvous.port;
    frame.session.ttl_left_s = (uint32_t)(expires_at > now ? (expires_at - now) / 1000 : 0);
    frame.session.is_peer_up = session_peer(session, to) != NULL;
    session_send(session, to, &frame);
}

void session_send_peer(struct session *session, struct client *to, bool is_up, enum gt_code reason)
{
    struct gt_control_frame frame = {.type = GT_CONTROL_PEER};

    frame.peer.is_up = is_up;
    frame.peer.reason = (uint8_t)reason;
    session_send(session, to, &frame);
}

void session_send_end(struct session *session, struct client *to, uint32_t stream, uint32_t attempt,
                      enum gt_code code)
{
    struct gt_control_frame frame = {.type = GT_CONTROL_STREAM_END};

    frame.stream_end.stream = stream;
    frame.stream_end.attempt = attempt;
    frame.stream_end.code = (uint16_t)code;
    session_send(session, to, &frame);
}

void session_send_ticket(struct session *session, struct client *to, const struct stream *stream)
{
    struct gt_control_frame frame = {.type = GT_CONTROL_TICKET, .ticket = stream->ticket};
    uint64_t now = gt_clock_ms();

    frame.ticket.ttl_s =
        (uint16_t)(stream->expires_at > now ? (stream->expires_at - now + 999) / 1000 : 0);
    session_send(session, to, &frame);
    gt_wipe(&frame, sizeof(frame));
}

void session_send_ticket_to_both(struct session *session, const struct stream *stream)
{
    for (size_t i = 0; i < GT_ARRAY_SIZE(session_roles); i++)
        session_send_ticket(session, session_client(session, session_roles[i]), stream);
}

void session_send_end_to_both(struct session *session, uint32_t stream, uint32_t attempt,
                              enum gt_code code)
{
    for (size_t i = 0; i < GT_ARRAY_SIZE(session_roles); i++)
        session_send_end(session, session_client(session, session_roles[i]), stream, attempt, code);
}
