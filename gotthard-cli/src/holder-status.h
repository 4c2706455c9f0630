/* SPDX-License-Identifier: ISC */
/*
 * The status of a session for `sessions`, as a holder and `connect` answer it on their control
 * sockets.
 */
#pragma once

#include "holder-message.h"
#include "session.h"

/* Fills all of @ret but ->kind and ->forwards. @session: NULL before it exists. @started_ms: of
 * gt_clock_ms(). */
void holder_status_fill(const struct session *session, const char *device, const char *operator_,
                        uint64_t started_ms, struct holder_status *ret);
