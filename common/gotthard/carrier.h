/* SPDX-License-Identifier: ISC */
/*
 * One relay connection of one attempt of a stream: dial, JOIN with the ticket, TLS with the
 * attempt's PSK, and then bytes both ways until it is closed or lost. A stream outlives its
 * carriers (conduit.c); a carrier knows nothing of frames.
 *
 * Everything that goes wrong comes as on_gone, from a later turn of the loop: reading and writing
 * only ever say "no more now".
 */
#pragma once

#include <ev.h>

#include "gotthard/join.h"
#include "gotthard/sock.h"
#include "gotthard/tls.h"

#define GT_CARRIER_RECORD (16 * 1024) /* what one write takes at most */
#define GT_CARRIER_QUIET  25.0        /* a NAT may forget after 30 s */
#define GT_CARRIER_SILENT 45.0

struct gt_carrier;

struct gt_carrier_settings {
    struct ev_loop *loop;
    enum gt_role role;
    const uint8_t *session_key; /* K_sess; borrows during gt_carrier_new */
    struct gt_tls_context *tls; /* keeps: client for an operator, server for a device */
    double quiet_s;             /* without a byte until we ask, at most; 0: GT_CARRIER_QUIET */
    double silent_s; /* ... until it counts as lost, as when it takes nothing for as long; 0:
                        GT_CARRIER_SILENT */
};

struct gt_carrier_events {
    void (*on_ready)(void *userdata);    /* handshaken: bytes may go both ways */
    void (*on_readable)(void *userdata); /* gt_carrier_fill may find some */
    void (*on_writable)(void *userdata); /* there is room again after there was none */
    /* Now and then. @is_quiet: nothing came for long, ask for a sign of life. */
    void (*on_beat)(void *userdata, bool is_quiet);
    /* Over; @why is static. @is_goodbye: the peer itself said so, after all it had to say; else it
     * may still be there. Free the carrier, also here. */
    void (*on_gone)(void *userdata, bool is_goodbye, const char *why);
};

/* Begins to dial. No callback comes from inside, whatever the network says. -ENOMEM. */
int gt_carrier_new(const struct gt_carrier_settings *settings, const struct gt_addr *relay,
                   const struct gt_ticket *ticket, const struct gt_carrier_events *events,
                   void *userdata, struct gt_carrier **ret) GT_MUST_CHECK;
/* At once, without a goodbye. Not inside a callback of its own but on_gone. Takes NULL. */
struct gt_carrier *gt_carrier_free(struct gt_carrier *carrier);
/*
 * Sends what is written, says goodbye, and waits for the peer's (5 s at most), so that nothing
 * written is lost on the way: on_gone follows.
 */
void gt_carrier_close(struct gt_carrier *carrier);

/* The network has changed under it, or this machine has slept (@has_slept): a carrier whose way is
 * gone is lost; one that may be has 5 s to bring a sign of life (on_beat comes from inside). */
void gt_carrier_check(struct gt_carrier *carrier, bool has_slept);
/* What is about to be sent must not be lost on a way that is gone: as above, in doubt or not, if it
 * was not heard for a few seconds. */
void gt_carrier_prove(struct gt_carrier *carrier);

/* What is in the next record; it stays until gt_carrier_fill, or the end of on_readable. False:
 * none is here as a whole. */
bool gt_carrier_next(struct gt_carrier *carrier, struct gt_span *ret);
/* Looks for more, or for the end. False: no more now. */
bool gt_carrier_fill(struct gt_carrier *carrier);
/* How much should be in one: GT_CARRIER_RECORD, or less while that would come late. */
size_t gt_carrier_record(const struct gt_carrier *carrier);
/* Would gt_carrier_write take a whole record? If not, on_writable comes (or on_gone). */
bool gt_carrier_has_room(struct gt_carrier *carrier);
/* One record of at most GT_CARRIER_RECORD bytes in pieces, which goes out by gt_carrier_flush. */
void gt_carrier_write(struct gt_carrier *carrier, const struct gt_span *parts, size_t n_parts);
void gt_carrier_flush(struct gt_carrier *carrier);
