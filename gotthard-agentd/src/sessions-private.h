/* SPDX-License-Identifier: ISC */
/* What sessions.c shares with sessions-restore.c. */
#pragma once

#include "sessions.h"

void sessions_add(struct sessions *sessions, struct session *session);
/* The end of a session's worker; session_fn. */
void sessions_on_session_end(void *userdata, struct session *session);

/* --- sessions-audit.c --- */

/* Records an event of @session that has a reason only. */
void sessions_audit(const struct sessions *sessions, const struct session *session,
                    enum gt_audit_kind kind, const char *reason);
void sessions_audit_granted(const struct sessions *sessions, const struct session *session,
                            uint32_t lifetime_s);
void sessions_audit_closed(const struct sessions *sessions, const struct session *session);
/* An event of the session's worker; session_event_fn. */
void sessions_on_worker_event(void *userdata, struct session *session,
                              const struct worker_event *reported);
