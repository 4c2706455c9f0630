/* SPDX-License-Identifier: ISC */
/* Shared by session.c and session-own-file.c, which has the session's file. */
#pragma once

#include "session.h"

/* Creates the file in @folder (NULL: none), else an anonymous one. If that fails the session has
 * none, with a warning. */
void session_open_file(struct session *session, const char *folder);
/* Writes ->info before the worker starts. The negative errno of session_file_write(): another
 * listener could not judge the session. */
int session_write_file(struct session *session) GT_MUST_CHECK;
/* The same for a changed grant. -ENOENT: the session has no file, so that its worker cannot learn
 * of it. */
int session_rewrite_file(const struct session *session) GT_MUST_CHECK;
