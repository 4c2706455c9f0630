/* SPDX-License-Identifier: ISC */
/* What sessions.c shares with sessions-restore.c. */
#pragma once

#include "sessions.h"

void sessions_add(struct sessions *sessions, struct session *session);
/* The end of a session's worker; session_fn. */
void sessions_on_session_end(void *userdata, struct session *session);
