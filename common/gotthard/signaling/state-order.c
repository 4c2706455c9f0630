/* SPDX-License-Identifier: ISC */
/* The decision; see the header. */
#include "gotthard/signaling/state-order.h"

#include <string.h>

bool gt_state_order_accept(struct gt_state_order *order, const struct gt_state *state,
                           bool is_retained)
{
    bool is_same_epoch =
        order->is_set && memcmp(order->epoch, state->epoch, sizeof(order->epoch)) == 0;

    if (order->is_live && is_retained)
        return false;
    if (is_same_epoch && state->seq <= order->seq) {
        order->is_live |= !is_retained && state->seq == order->seq;
        return false;
    }
    order->is_set = true;
    order->is_live = !is_retained;
    memcpy(order->epoch, state->epoch, sizeof(order->epoch));
    order->seq = state->seq;
    return true;
}

bool gt_state_is_will(const struct gt_state *state)
{
    return !state->is_online && (uint32_t)state->seq == UINT32_MAX;
}
