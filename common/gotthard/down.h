/* SPDX-License-Identifier: ISC */
/*
 * Why a link, or the tunnel over it, is over: what a caller decides by. The relay's code
 * (control.h) and a text for people say more.
 */
#pragma once

enum gt_down {
    GT_DOWN_CLOSED,      /* politely: by this side, or by the other's BYE */
    GT_DOWN_UNREACHABLE, /* no address for the host, no connection, or no answer in time */
    GT_DOWN_REFUSED,     /* the handshake failed: wrong key here or there, or not our relay */
    GT_DOWN_RELAY,    /* the relay said no (->code: NO_PORT, TAKEN, LIMIT...) or spoke nonsense */
    GT_DOWN_LOST,     /* it was up; then the connection broke or went silent */
    GT_DOWN_PEER,     /* tunnel only: the other side did not come, or not back, in time */
    GT_DOWN_EXPIRED,  /* the session's lifetime has passed */
    GT_DOWN_INTERNAL, /* memory, descriptors or a library here */
};

/* "closed", "unreachable", ...: for log lines and JSON. Static storage. */
const char *gt_down_text(enum gt_down cause);
