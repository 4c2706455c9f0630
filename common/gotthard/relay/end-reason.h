/* SPDX-License-Identifier: ISC */
/*
 * The reason why a control connection, or the tunnel over it, has ended. Callers decide by it; the
 * relay's code (proto/control.h) and a text for people have the details.
 */
#pragma once

enum gt_end_reason {
    GT_END_CLOSED,      /* in order: by this side, or by the other side's BYE */
    GT_END_UNREACHABLE, /* no address for the host, no connection, or no answer in time */
    GT_END_PROXY,       /* the proxy does not permit a connection to the relay */
    GT_END_REFUSED,     /* the handshake failed: a wrong key on either side, or another relay */
    GT_END_RELAY,       /* an ERROR of the relay (code: NO_PORT, IN_USE...), or a protocol violation
                         */
    GT_END_LOST,        /* it was up, then the connection broke or the heartbeat timed out */
    GT_END_PEER,        /* tunnel only: the other side did not join, or not return, in time */
    GT_END_EXPIRED,     /* the lifetime of the session has passed */
    GT_END_IDLE,        /* the relay ended a session that had no stream for a time */
    GT_END_LIMIT,       /* a quota of the relay (code: LIMIT, SESSIONS, IDENTITY) */
    GT_END_WITHDRAWN,   /* the device no longer grants the session */
    GT_END_INTERNAL,    /* a failure here: memory, descriptors, a library */
};

/* Returns "closed", "unreachable", ...: for log lines and JSON. Static storage. */
const char *gt_end_reason_text(enum gt_end_reason reason);

/* Returns the reason for a BYE or ERROR of the relay with @code (enum gt_code). */
enum gt_end_reason gt_end_reason_of_code(unsigned code);

/* The control connection, once it was up. */
enum gt_relay_change {
    GT_RELAY_LOST,
    GT_RELAY_UPGRADED, /* closed by a live upgrade: planned, and data connections continue */
    GT_RELAY_BACK,
};
