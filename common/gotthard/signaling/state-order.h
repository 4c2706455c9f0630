/* SPDX-License-Identifier: ISC */
/*
 * Which of several authentic STATE messages of one device is the latest. A broker may deliver a
 * retained message after a live one, and the last will of an old connection after the state of the
 * new one.
 */
#pragma once

#include "gotthard/signaling/message.h"

/* Returns true if @state is a last will: its since is when the device came online, not when it was
 * lost. */
bool gt_state_is_will(const struct gt_state *state);

struct gt_state_order { /* of the accepted state; zeroed: none yet */
    bool is_set, is_live;
    uint8_t epoch[GT_EPOCH_SIZE];
    uint64_t seq;
};

/*
 * Returns true and updates @order if @state replaces the accepted one. A retained message never
 * replaces a live one. Within an epoch the greater seq wins. Between epochs, which have no order,
 * the later message wins.
 */
bool gt_state_order_accept(struct gt_state_order *order, const struct gt_state *state,
                           bool is_retained);
