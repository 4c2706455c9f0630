/* SPDX-License-Identifier: ISC */
/*
 * The streams of a session: requests of its clients, tickets, and reports of its data thread. An
 * error that concerns a stream is answered with a STREAM_END with its number and leaves the
 * connection alone. The data thread gets a ticket before the clients do, so that no JOIN arrives
 * before its ticket.
 */
#include "control/session-internal.h"
#include "gotthard/base/log.h"

/* --- tickets ---------------------------------------------------------------------------------- */

/* The id begins with the session's port. It leads a JOIN at the main port to the data thread of the
 * session, also after an upgrade. */
static int session_create_ticket(const struct session *session, struct gt_ticket *ret)
{
    uint16_t port = session->rendezvous.port;
    int r = gt_random(ret->id, sizeof(ret->id));

    if (!r)
        r = gt_random(ret->secret, sizeof(ret->secret));
    if (r)
        return r;
    ret->id[0] = (uint8_t)(port >> 8);
    ret->id[1] = (uint8_t)port;
    ret->ttl_s = (uint16_t)(session->host->limits.ticket_ms / 1000);
    return 0;
}

/* Grants tickets to waiting streams, up to the limit of unused tickets. */
static void session_grant_tickets(struct session *session)
{
    struct session_host *host = session->host;
    struct streams *streams = &session->rendezvous.streams;
    uint64_t expires_at = gt_clock_ms() + host->limits.ticket_ms;

    for (struct stream *next = stream_slots_next(streams); next;
         next = stream_slots_next(streams)) {
        struct gt_ticket ticket = next->ticket;

        if (session_create_ticket(session, &ticket) ||
            data_thread_add_ticket(session->data_thread, session->session_port, &ticket,
                                   expires_at)) {
            session_send_end_to_both(session, ticket.stream, ticket.attempt, GT_CODE_INTERNAL);
            stream_slots_end(streams, next);
            continue;
        }
        stream_slots_grant(streams, next, &ticket, expires_at);
        session_send_ticket_to_both(session, next);
        gt_wipe(&ticket, sizeof(ticket));
    }
}

void session_repeat_tickets(struct session *session, struct client *client)
{
    const struct streams *streams = &session->rendezvous.streams;

    for (size_t i = 0; i < streams->n_slots; i++)
        if (streams->slots[i].state == STREAM_SLOT_TICKETED)
            session_send_ticket(session, client, &streams->slots[i]);
}

/* --- requests of clients ---------------------------------------------------------------------- */

static void session_cancel(struct session *session, uint32_t stream, uint32_t attempt)
{
    if (data_thread_cancel_ticket(session->data_thread, session->session_port, stream, attempt))
        gt_warn("session=%s dropped a message reason=\"out of memory\"", session->rendezvous.tag);
}

/* The shared connection does not count as activity of the session: LOAD does. */
static void session_end_stream(struct session *session, struct stream *stream)
{
    if (stream->ticket.stream != 0)
        session->rendezvous.active_at = gt_clock_ms();
    stream_slots_end(&session->rendezvous.streams, stream);
}

/* Returns true if @stream is beyond those of a session of a token. */
static bool session_is_beyond_token(struct session *session, uint32_t stream)
{
    const char *device = rendezvous_slot(&session->rendezvous, GT_ROLE_DEVICE)->name;

    return stream > ADMISSION_TOKEN_STREAMS && admission_is_token(GT_ROLE_DEVICE, device);
}

void session_open(struct session *session, struct client *client,
                  const struct gt_control_frame *frame)
{
    uint32_t stream = frame->open.stream, attempt = frame->open.attempt;

    if (session_is_beyond_token(session, stream)) {
        session_send_end(session, client, stream, attempt, GT_CODE_LIMIT);
        return;
    }
    switch (stream_slots_open(&session->rendezvous.streams, stream, attempt)) {
    case STREAM_SLOTS_E_ORDER:
        client_fail(client, GT_CODE_PROTOCOL, session->rendezvous.rid, "attempt out of order");
        return;
    case STREAM_SLOTS_E_FULL:
        session_send_end(session, client, stream, attempt, GT_CODE_LIMIT);
        return;
    }
    stream_slots_find(&session->rendezvous.streams, stream, attempt)->ticket.segment =
        frame->open.segment;
    if (attempt > 1)
        session_cancel(session, stream,
                       attempt - 1); /* the ticket and the pair of the previous attempt */
    session_grant_tickets(session);
    session_arm(session);
}

void session_set_load(struct session *session, uint32_t n_streams)
{
    rendezvous_set_load(&session->rendezvous, n_streams, gt_clock_ms());
    session_arm(session);
}

void session_stream_end(struct session *session, struct client *client,
                        const struct gt_control_frame *frame)
{
    uint32_t number = frame->stream_end.stream, attempt = frame->stream_end.attempt;
    struct stream *stream = stream_slots_notify(&session->rendezvous.streams, number, attempt);
    struct gt_control_frame copy = *frame;

    if (!stream)
        return; /* at most one notice of each side reaches the other side's queue */
    session_send(session, session_peer(session, client), &copy);
    if (stream->state != STREAM_SLOT_WAITING && stream->state != STREAM_SLOT_TICKETED)
        return; /* its pair ends after the last byte, or has ended */
    session_end_stream(session, stream);
    session_cancel(session, number, attempt);
    session_grant_tickets(session);
    session_arm(session);
}

/* --- reports of the data thread --------------------------------------------------------------- */

static void session_on_stream_paired(struct session *session, struct stream *stream)
{
    session->n_connections++;
    stream_slots_join(&session->rendezvous.streams, stream);
    session_grant_tickets(session);
    session_arm(session);
}

/* The clients see the end of a joined stream on its data connection. They are notified of the end
 * of a stream that has not joined. */
static void session_on_stream_ended(struct session *session, struct stream *stream,
                                    const struct message *message)
{
    if (stream->state != STREAM_SLOT_JOINED)
        session_send_end_to_both(session, message->stream, message->attempt, message->code);
    session_end_stream(session, stream);
    session_grant_tickets(session);
    session_arm(session);
}

void session_on_message(struct session *session, const struct message *message)
{
    struct stream *stream =
        stream_slots_find(&session->rendezvous.streams, message->stream, message->attempt);

    if (stream && message->kind == MESSAGE_PAIRED)
        session_on_stream_paired(session, stream);
    else if (stream && message->kind == MESSAGE_ENDED)
        session_on_stream_ended(session, stream, message);
}
