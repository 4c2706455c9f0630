/* SPDX-License-Identifier: ISC */
/*
 * A local TCP socket tied to a stream over relay connections (carrier.h), one after another: bytes
 * both ways until both ends said FIN and heard it acknowledged, or it breaks: then the local socket
 * gets an RST, never an EOF.
 *
 * When a carrier is lost the stream is parked: the local socket stays open, and is read as long as
 * there is room. The operator's end asks for another ticket, with patience (backoff.h); the
 * device's waits for it. After resume_s without a carrier it breaks. A stream that is over is kept
 * in the same way for a peer that may not know: until its goodbye is heard, or for resume_s.
 *
 * A spare is a stream without a service yet: joined, handshaken and idle, so that a local
 * connection finds its way open (BIND). One that loses its carrier is not worth another; once it is
 * bound it is a stream like any other, whether the peer heard of that before a cut or hears it
 * after.
 *
 * The way of the bytes is pump.h's.
 */
#pragma once

#include <ev.h>

#include "gotthard/carrier.h"
#include "gotthard/stream.h"

struct gt_conduit;

struct gt_conduit_settings {
    struct ev_loop *loop;
    enum gt_role role;
    const uint8_t *session_key;      /* K_sess; keeps */
    struct gt_tls_context *tls;      /* keeps: client for an operator, server for a device */
    size_t ring_size;                /* of each direction, at most */
    struct gt_stream_memory *memory; /* of all streams together; keeps; NULL: no limit */
    double quiet_s, silent_s;        /* heartbeat: asked for after, given up after; 0: 25 and 45 */
    double resume_s; /* how long it may be without a carrier; 0: a lost one breaks it */
};

struct gt_conduit_events {
    /* The conduit needs a carrier for this attempt: ask the relay for a ticket, then
     * gt_conduit_carry(). Comes again, with a greater attempt, when nothing came of it, or the
     * carrier is lost. Operator only. */
    void (*on_ticket_due)(struct gt_conduit *conduit, void *userdata, uint32_t attempt);
    /* Device: a carrier that was up is lost, and the operator may not know: tell him, through the
     * relay, so that he asks for another ticket. Comes again as long as none comes. */
    void (*on_lost)(struct gt_conduit *conduit, void *userdata, uint32_t attempt);
    /* Device: the operator named the service (HELLO or BIND). Answer with _serve or _refuse, now or
     * later. */
    void (*on_service)(struct gt_conduit *conduit, void *userdata, const char *service);
    /* Both HELLOs are exchanged, each time a carrier is up. */
    void (*on_up)(struct gt_conduit *conduit, void *userdata);
    /* Over: GT_RST_NONE when it ended well. Everything is closed. The conduit frees itself after
     * this returns. */
    void (*on_end)(struct gt_conduit *conduit, void *userdata, enum gt_rst code);
};

enum { GT_CONDUIT_E_STALE = 1 /* a ticket of another stream, of an old attempt, or too late */ };
#define GT_CONDUIT_TRIES 3 /* of a stream that never was up */

/*
 * @local_fd: operator, takes, also on failure; -1 with @service "" for a spare; device: -1 and
 * NULL. Operator: on_ticket_due comes before this returns (with *ret set already). -ENOMEM.
 */
int gt_conduit_new(const struct gt_conduit_settings *settings, uint32_t number, int local_fd,
                   const char *service, const struct gt_conduit_events *events, void *userdata,
                   struct gt_conduit **ret) GT_MUST_CHECK;
/* A ticket is there: dial @relay (address and port) and go on. A newer attempt closes the older
 * carrier. E_STALE, -ENOMEM. */
int gt_conduit_carry(struct gt_conduit *conduit, const struct gt_addr *relay,
                     const struct gt_ticket *ticket) GT_MUST_CHECK;
/* Operator: gives a spare its socket (takes @fd) and its service. What can be read from the socket
 * already goes out in the same write. */
void gt_conduit_bind(struct gt_conduit *conduit, int fd, const char *service);
/* Device: the target is connected (takes @fd), or could not be. */
void gt_conduit_serve(struct gt_conduit *conduit, int fd);
void gt_conduit_refuse(struct gt_conduit *conduit, enum gt_rst code);
/* There is a way to the relay again: asks for a ticket now, if it needs one. */
void gt_conduit_resume(struct gt_conduit *conduit);
/* The other side has lost the carrier of @attempt: then this side has, too. */
void gt_conduit_lose(struct gt_conduit *conduit, uint32_t attempt);
/* The network has changed, or the machine has slept: as gt_carrier_check. */
void gt_conduit_check(struct gt_conduit *conduit, bool has_slept);
/* Breaks it from outside, for good: RST to both sides as far as there is a carrier, then on_end
 * from a later turn of the loop. One that is over already ends as it is. */
void gt_conduit_break(struct gt_conduit *conduit, enum gt_rst code);
/* At once, without on_end: for the end of the process. Not from inside its own callbacks. */
struct gt_conduit *gt_conduit_free(struct gt_conduit *conduit);

uint32_t gt_conduit_number(const struct gt_conduit *conduit);
/* The last one: asked for, or carried. */
uint32_t gt_conduit_attempt(const struct gt_conduit *conduit);
/* Has it no service? On the device: or none yet. */
bool gt_conduit_is_spare(const struct gt_conduit *conduit);
/* Operator: may it be bound; is it up already? */
bool gt_conduit_is_bindable(const struct gt_conduit *conduit);
bool gt_conduit_is_up(const struct gt_conduit *conduit);
/* Does a carrier carry it now, if only its last words? */
bool gt_conduit_is_carried(const struct gt_conduit *conduit);
const char *gt_conduit_service(const struct gt_conduit *conduit);
/* How it ended, or GT_RST_NONE; settled as soon as it is broken, before on_end. */
enum gt_rst gt_conduit_code(const struct gt_conduit *conduit);
/* Payload bytes so far, operator to device and device to operator. */
void gt_conduit_counts(const struct gt_conduit *conduit, uint64_t *ret_up, uint64_t *ret_down);
