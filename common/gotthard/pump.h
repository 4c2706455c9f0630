/* SPDX-License-Identifier: ISC */
/*
 * The way of the bytes, between a stream and the sockets on its two sides:
 *
 *    local socket --collect--> stream --emit----> carrier
 *    local socket <--absorb--- stream <---------- carrier
 *
 * One recv() from the local socket into the tx ring; frames from where they lie there, 16 KiB at a
 * time (a packet at a time at first), into TLS's output buffer; one send() for many records. The
 * other way one recv() into TLS's input buffer, and one sendmsg() from there, after what it holds
 * was opened in place. No byte is copied but by the kernel, as long as the local socket takes what
 * comes.
 *
 * One call moves GT_PUMP_BUDGET bytes at most, so that many streams share one loop fairly. None of
 * them says what became of it: that is how the stream is afterwards.
 */
#pragma once

#include "gotthard/carrier.h"
#include "gotthard/local.h"

#define GT_PUMP_BUDGET (1024 * 1024)

/* What there is for the carrier (NULL: there is none), as far as it takes it. The last words of a
 * stream wait for the carrier's goodbye, which the caller says in the same turn. */
void gt_pump_emit(struct gt_stream *stream, struct gt_carrier *carrier);
/* What the carrier has. */
void gt_pump_absorb(struct gt_stream *stream, struct gt_carrier *carrier, struct gt_local *local);
/* What the local socket has, as far as there is room for it; it goes out call by call. */
void gt_pump_collect(struct gt_stream *stream, struct gt_local *local, struct gt_carrier *carrier);
