/* SPDX-License-Identifier: ISC */
/*
 * The parts of a channel: its stream and its local endpoint (channel.c), its attachments, one after
 * another (channel-path.c), the data connection of its own (channel-move.c), and the regular look
 * at what it holds (channel-stall.c). Only these files include this header.
 */
#pragma once

#include "gotthard/net/backoff.h"
#include "gotthard/tunnel/channel.h"
#include "gotthard/tunnel/linger.h"
#include "gotthard/tunnel/pump.h"
#include "gotthard/tunnel/stall.h"

enum channel_state {
    CHANNEL_WAITING, /* attached to nothing */
    CHANNEL_HELLO,   /* HELLO is exchanged both ways */
    CHANNEL_UP,
    CHANNEL_CLOSING, /* over: the last frames are exchanged */
    CHANNEL_ENDED,   /* everything is closed; on_end is due */
};

/* The data connection of its own. */
enum own_state {
    OWN_NONE,
    OWN_REQUESTED, /* operator: a ticket is awaited */
    OWN_DIALING,   /* dialed, joined and handshaken, beside the present attachment */
    OWN_ATTACHED,
};

struct channel_own {
    enum own_state state;
    uint32_t attempt;                      /* from REQUESTED on */
    uint16_t segment;                      /* of the last one */
    bool is_known_to_relay;                /* one was ever requested or dialed */
    bool is_black_hole;                    /* device: large packets were lost on it */
    struct gt_data_connection *connection; /* owned; from DIALING on */
    unsigned n_failed;                     /* moves, or soon lost, in a row */
    double at; /* by gt_clock(). REQUESTED, DIALING: when it has failed; ATTACHED: since; NONE: the
                  next one not before */
    double moved_at;  /* ATTACHED: when payload was last seen to move */
    uint64_t n_moved; /* and the sum of the offsets then */
};

struct gt_channel {
    const struct gt_channel_settings *settings;
    const struct gt_channel_events *events;
    void *userdata;

    enum channel_state state;
    ev_timer deadline;
    ev_timer update; /* an update is due that no descriptor causes */

    struct gt_stream stream;
    struct gt_shared_member member; /* attached or not: ->shared */
    struct channel_own own;
    uint32_t attempt;          /* the last that was assigned or dialed */
    enum gt_stream_kind kind;  /* of the last attachment */
    bool is_final;             /* is not attached again */
    bool may_peer_know;        /* a HELLO was sent, or received */
    double give_up_at;         /* WAITING */
    struct gt_backoff reports; /* device, WAITING: of on_connection_lost */
    bool is_report_due;        /* device: the operator may not know of the loss of ->attempt */
    struct gt_stall stall;     /* of the present attachment */
    struct gt_sweep_item held; /* while it holds something */
    uint64_t n_moved_at_look;  /* the sum of the offsets */

    bool is_service_requested; /* device: on_service was called */
    bool is_connect_reported;  /* operator: on_connected was called */
    struct gt_endpoint endpoint;
    struct gt_pump pump;
    struct gt_linger linger;
};

/* --- channel-path.c --------------------------------------------------------------------------- */

/* A new channel waits for its first attachment. */
void gt_channel_start(struct gt_channel *channel);
/* Enters @state and sets its deadline. */
void gt_channel_enter(struct gt_channel *channel, enum channel_state state);
/* The deadline of the state has expired. */
void gt_channel_on_deadline(struct ev_loop *loop, ev_timer *watcher, int revents);
static inline bool gt_channel_is_shared(const struct gt_channel *channel)
{
    return channel->member.shared != NULL;
}
static inline bool gt_channel_is_own(const struct gt_channel *channel)
{
    return channel->own.state == OWN_ATTACHED;
}
/* Returns true if another attachment has something to do, and there is time for it. */
bool gt_channel_may_attach(const struct gt_channel *channel);
/* Ends the present attachment, if there is one, for another one. */
void gt_channel_detach(struct gt_channel *channel);
/* It is attached again, as @kind: HELLO is due. */
void gt_channel_attached(struct gt_channel *channel, uint32_t attempt, enum gt_stream_kind kind);
/* The present attachment is lost: the stream waits for another, or its end is final. */
void gt_channel_lose(struct gt_channel *channel);
/* Operator: the same, and it is attached to the shared connection again, if that is up. */
void gt_channel_return(struct gt_channel *channel);
/* Device: the operator may be attached already to the data connection that failed here. Reports its
 * loss, again and again until the operator begins the stream somewhere else. */
void gt_channel_report_failed_dial(struct gt_channel *channel);
/* Sums the bytes of payload that were sent and received. */
uint64_t gt_channel_n_moved(const struct gt_channel *channel);
/* Bytes that it may move before the loop continues with other streams. */
size_t gt_channel_batch(const struct gt_channel *channel);
extern const struct gt_shared_member_events gt_channel_member_events;

/* --- channel-move.c --------------------------------------------------------------------------- */

/* Operator: requests a data connection of its own if the stream needs one. */
void gt_channel_move_if_needed(struct gt_channel *channel);
/* The relay may have missed a request: forgets it, and any delay, and requests again if needed. */
void gt_channel_request_again(struct gt_channel *channel);
/* Its own data connection, in any state, is closed at once, without close_notify. */
void gt_channel_drop_own(struct gt_channel *channel);

/* Its own data connection, to which it is attached, is lost: begins again on the shared connection,
 * and delays the next move. */
void gt_channel_lose_own(struct gt_channel *channel);
/* Acts on the deadlines of a move. */
void gt_channel_look_at_move(struct gt_channel *channel);
/* Returns true if a data connection of its own is requested or dialed. */
static inline bool gt_channel_is_moving(const struct gt_channel *channel)
{
    return channel->own.state == OWN_REQUESTED || channel->own.state == OWN_DIALING;
}

/* --- channel-stall.c -------------------------------------------------------------------------- */

void gt_channel_init_look(struct gt_channel *channel);
/* An endpoint that is not read cannot report its reset: finds out whether there was one. Returns
 * true if it did that; an update is due then. */
bool gt_channel_detect_reset(struct gt_channel *channel);
/* The channel may hold something from now on: it is looked at until it does not. */
void gt_channel_hold(struct gt_channel *channel);

/* --- channel.c -------------------------------------------------------------------------------- */

/* Moves bytes and acts on the state of the stream. The last statement of a handler. */
void gt_channel_update(struct gt_channel *channel);
/* Calls it from the next loop iteration. Public functions end with it, so that no callback comes
 * from inside them. */
void gt_channel_schedule_update(struct gt_channel *channel);
