/* SPDX-License-Identifier: ISC */
/*
 * One list and one timer. Must never wake up the process for an empty list, except once.
 */
#include "gotthard/tunnel/sweep.h"

static void sweep_on_timer(struct ev_loop *loop, ev_timer *timer, int revents)
{
    struct gt_sweep *sweep = timer->data;

    gt_list_for_each_safe (at, next, &sweep->items) {
        struct gt_sweep_item *item = gt_list_entry(at, struct gt_sweep_item, link);

        if (!item->look(item))
            gt_list_unlink(&item->link);
    }
    if (gt_list_is_empty(&sweep->items))
        ev_timer_stop(loop, timer);
}

void gt_sweep_init(struct gt_sweep *sweep, struct ev_loop *loop)
{
    sweep->loop = loop;
    gt_list_init(&sweep->items);
    ev_timer_init(&sweep->timer, sweep_on_timer, GT_SWEEP_S, GT_SWEEP_S);
    sweep->timer.data = sweep;
}

void gt_sweep_deinit(struct gt_sweep *sweep)
{
    ev_timer_stop(sweep->loop, &sweep->timer);
}

void gt_sweep_item_init(struct gt_sweep_item *item, bool (*look)(struct gt_sweep_item *item))
{
    item->look = look;
    gt_list_init(&item->link);
}

void gt_sweep_start(struct gt_sweep *sweep, struct gt_sweep_item *item)
{
    if (!gt_list_is_empty(&item->link))
        return;
    gt_list_append(&sweep->items, &item->link);
    if (!ev_is_active(&sweep->timer))
        ev_timer_again(sweep->loop, &sweep->timer);
}

void gt_sweep_stop(struct gt_sweep_item *item)
{
    gt_list_unlink(&item->link);
}
