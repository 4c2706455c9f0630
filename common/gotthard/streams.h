/* SPDX-License-Identifier: ISC */
/*
 * The streams of one tunnel, each with its conduit: found by number, opened by the operator, made
 * on the device by their first ticket, forgotten at their end. They ask the tunnel's link for
 * tickets and tell it of ends; what the tunnel is doing else they do not know.
 */
#pragma once

#include "gotthard/conduit.h"
#include "gotthard/link.h"

struct gt_streams;

struct gt_streams_events {
    /* Device: answer with gt_conduit_serve or gt_conduit_refuse. */
    void (*on_service)(void *userdata, struct gt_conduit *conduit, const char *service);
    /* A stream is over, and is forgotten after this returns. The relay is told. Not of spares. */
    void (*on_end)(void *userdata, const char *service, uint32_t stream, enum gt_rst code,
                   uint64_t n_up, uint64_t n_down);
    /* For the whole that @streams is a part of: a spare is over; that was the last one of all. */
    void (*on_spare_end)(struct gt_streams *streams, enum gt_rst code);
    void (*on_empty)(struct gt_streams *streams);
};

struct gt_streams {
    struct gt_conduit_settings conduits; /* of each */
    struct gt_stream_memory memory;      /* of all */
    struct gt_streams_events events;
    void *userdata;
    unsigned max;
    uint32_t last;   /* the greatest number seen or given */
    uint32_t opened; /* the number of the last one that _open or _bind was called for */
    struct streams_entry *entries;
    uint8_t session_key[GT_KEY_SIZE];
    struct gt_link *link; /* the tunnel's */
    bool is_held;         /* asks for no ticket */
};

/* Keeps the loop; copies the session's key, and makes the TLS context itself. @userdata is for
 * on_service and on_end. Deinit it also on failure. */
int gt_streams_init(struct gt_streams *streams, const struct gt_conduit_settings *conduits,
                    unsigned max, const struct gt_streams_events *events,
                    void *userdata) GT_MUST_CHECK;
/* At once, without on_end. */
void gt_streams_deinit(struct gt_streams *streams);

/* Another link (keeps). */
void gt_streams_use(struct gt_streams *streams, struct gt_link *link);
/* Tickets would be asked for in vain: not until it is over, and then gt_streams_resume. */
void gt_streams_hold(struct gt_streams *streams, bool is_held);

enum { GT_STREAMS_E_FULL = 1 };

/* Operator: a new one for @local_fd (takes, also on failure). E_FULL, -ENOMEM. */
int gt_streams_open(struct gt_streams *streams, int local_fd, const char *service) GT_MUST_CHECK;
/* Operator: one for whoever comes next. E_FULL, -ENOMEM. */
int gt_streams_open_spare(struct gt_streams *streams) GT_MUST_CHECK;
/* Operator: ends a spare that nobody has, if there is one; it is counted until on_spare_end. */
void gt_streams_drop_spare(struct gt_streams *streams);
/* Operator: gives @local_fd (takes, if true) to a spare; one that is up rather than one that is on
 * its way. False: there is none. */
bool gt_streams_bind(struct gt_streams *streams, int local_fd, const char *service);
/* On the device: those without a service yet. Ready: those of the operator's that are up. */
unsigned gt_streams_n_spares(const struct gt_streams *streams);
unsigned gt_streams_n_ready(const struct gt_streams *streams);
/* Is there room for one more, with @n to be left after it? */
bool gt_streams_has_room(const struct gt_streams *streams, unsigned n);
/* A ticket is there; on the device, the first of a stream makes it, or the operator is told why it
 * must not. */
void gt_streams_carry(struct gt_streams *streams, const struct gt_addr *relay,
                      const struct gt_ticket *ticket);
/* The relay, or the other side through it, says that a stream or one attempt at it has ended. */
void gt_streams_hear_end(struct gt_streams *streams, uint32_t number, uint32_t attempt,
                         unsigned code);
/* The network has changed, or the machine has slept: as gt_carrier_check. */
void gt_streams_check(struct gt_streams *streams, bool has_slept);
/* There is a way to the relay again: those that were parked need not wait any longer. */
void gt_streams_resume(struct gt_streams *streams);
/* Breaks all; each on_end comes from a later turn of the loop. Spares go without a word. */
void gt_streams_break(struct gt_streams *streams, enum gt_down cause);
/* Forgets all at once, each after its on_end; without on_empty. */
void gt_streams_drop(struct gt_streams *streams);

/* Those with a service: all but spares. */
unsigned gt_streams_count(const struct gt_streams *streams);
bool gt_streams_is_empty(const struct gt_streams *streams);
/* Is any of them carried now? */
bool gt_streams_is_carried(const struct gt_streams *streams);
