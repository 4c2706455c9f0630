/* SPDX-License-Identifier: ISC */
/*
 * The parts of a session: its life (session.c), its frames (session-frames.c) and its streams
 * (session-streams.c). Only these files include this header.
 */
#pragma once

#include "control/session.h"

extern const enum gt_role session_roles[2]; /* operator, device: in the order of the slots */

/* Sets the timer to the session's deadline. */
void session_arm(struct session *session);
/* Returns the client on the other side, or NULL. */
struct client *session_peer(struct session *session, const struct client *client);
/* Sends the session's tickets that are not used yet to @client. */
void session_repeat_tickets(struct session *session, struct client *client);

/* Send a frame of this session to @to. No effect if @to is NULL. */
void session_send(struct session *session, struct client *to, struct gt_control_frame *frame);
void session_send_session(struct session *session, struct client *to);
void session_send_peer(struct session *session, struct client *to, bool is_up, enum gt_code reason);
void session_send_end(struct session *session, struct client *to, uint32_t stream, uint32_t attempt,
                      enum gt_code code);
void session_send_ticket(struct session *session, struct client *to, const struct stream *stream);
/* Send the frame to both clients. */
void session_send_end_to_both(struct session *session, uint32_t stream, uint32_t attempt,
                              enum gt_code code);
void session_send_ticket_to_both(struct session *session, const struct stream *stream);
