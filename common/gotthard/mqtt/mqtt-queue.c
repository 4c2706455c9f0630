/* SPDX-License-Identifier: ISC */
/* A list with a lock; see the header. */
#include "gotthard/mqtt/mqtt-queue.h"

#include <stdio.h>

#define LIMIT (1u << 20) /* default */

struct gt_mqtt_event *gt_mqtt_event_new(enum gt_mqtt_event_type type, const char *text,
                                        struct gt_span payload)
{
    struct gt_mqtt_event *event = calloc(1, sizeof(*event) + payload.n);

    if (!event)
        return NULL;
    event->type = type;
    snprintf(event->text, sizeof(event->text), "%s", text);
    event->n = payload.n;
    if (payload.n)
        memcpy(event->payload, payload.data, payload.n);
    return event;
}

void gt_mqtt_queue_init(struct gt_mqtt_queue *queue, size_t limit, struct ev_loop *loop,
                        ev_async *wakeup)
{
    *queue = (struct gt_mqtt_queue){.limit = limit ? limit : LIMIT, .loop = loop, .wakeup = wakeup};
    queue->last = &queue->first;
    pthread_mutex_init(&queue->lock, NULL);
    pthread_cond_init(&queue->has_room, NULL);
}

void gt_mqtt_queue_deinit(struct gt_mqtt_queue *queue)
{
    for (struct gt_mqtt_event *event; (event = gt_mqtt_queue_pop(queue));)
        free(event);
    pthread_cond_destroy(&queue->has_room);
    pthread_mutex_destroy(&queue->lock);
}

void gt_mqtt_queue_close(struct gt_mqtt_queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    queue->loop = NULL;
    pthread_cond_signal(&queue->has_room);
    pthread_mutex_unlock(&queue->lock);
}

bool gt_mqtt_queue_push(struct gt_mqtt_queue *queue, struct gt_mqtt_event *event)
{
    if (!event)
        return false;
    pthread_mutex_lock(&queue->lock);
    while (queue->loop && queue->n_bytes >= queue->limit && event->type != GT_MQTT_EVENT_ENDED)
        pthread_cond_wait(&queue->has_room, &queue->lock);
    if (queue->loop) {
        *queue->last = event;
        queue->last = &event->next;
        queue->n_bytes += sizeof(*event) + event->n;
        ev_async_send(queue->loop, queue->wakeup);
    } else {
        free(event);
    }
    pthread_mutex_unlock(&queue->lock);
    return true;
}

struct gt_mqtt_event *gt_mqtt_queue_pop(struct gt_mqtt_queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    struct gt_mqtt_event *event = queue->first;
    if (event) {
        queue->first = event->next;
        if (!queue->first)
            queue->last = &queue->first;
        queue->n_bytes -= sizeof(*event) + event->n;
        pthread_cond_signal(&queue->has_room);
    }
    pthread_mutex_unlock(&queue->lock);
    return event;
}
