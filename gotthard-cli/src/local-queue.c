/* SPDX-License-Identifier: ISC */
/* A ring of connections. */
#include "local-queue.h"

bool local_queue_is_empty(const struct local_queue *queue)
{
    return queue->n == 0;
}

bool local_queue_is_full(const struct local_queue *queue)
{
    return queue->n == LOCAL_QUEUE_MAX;
}

void local_queue_push(struct local_queue *queue, int fd, const struct local_peer *peer)
{
    size_t last = (queue->first + queue->n++) % LOCAL_QUEUE_MAX;

    queue->items[last].fd = fd;
    queue->items[last].peer = *peer;
}

int local_queue_pop(struct local_queue *queue, struct local_peer *ret_peer)
{
    size_t first = queue->first;

    if (queue->n == 0)
        return -1;
    queue->first = (first + 1) % LOCAL_QUEUE_MAX;
    queue->n--;
    *ret_peer = queue->items[first].peer;
    return queue->items[first].fd;
}

void local_queue_deinit(struct local_queue *queue)
{
    struct local_peer peer;
    int fd;

    while ((fd = local_queue_pop(queue, &peer)) >= 0)
        gt_sock_reset(fd);
}
