/* SPDX-License-Identifier: ISC */
/*
 * One periodic look at all objects of a tunnel that hold something for a while: memory, or data
 * that is not acknowledged. One timer for all of them, which runs only while there are any: a
 * tunnel whose streams are idle causes no wake-up.
 */
#pragma once

#include <ev.h>

#include "gotthard/base/list.h"

#define GT_SWEEP_S 1. /* seconds between two looks */

struct gt_sweep {
    struct ev_loop *loop;
    ev_timer timer;
    struct gt_list items;
};

struct gt_sweep_item {
    /* Returns false if the object holds nothing any more: it is not looked at again. It may stop
     * this item, but no other one. */
    bool (*look)(struct gt_sweep_item *item);
    struct gt_list link; /* private */
};

/* Keeps @loop. */
void gt_sweep_init(struct gt_sweep *sweep, struct ev_loop *loop);
/* All items must be stopped. */
void gt_sweep_deinit(struct gt_sweep *sweep);
void gt_sweep_item_init(struct gt_sweep_item *item, bool (*look)(struct gt_sweep_item *item));
/* Looks at @item after up to GT_SWEEP_S, and then again and again. No effect if that is so already.
 */
void gt_sweep_start(struct gt_sweep *sweep, struct gt_sweep_item *item);
void gt_sweep_stop(struct gt_sweep_item *item);
static inline bool gt_sweep_is_active(const struct gt_sweep_item *item)
{
    return !gt_list_is_empty(&item->link);
}
