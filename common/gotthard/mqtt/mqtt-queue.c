/* SPDX-License-Identifier: ISC */
/* A list with a lock; see the header. */
#include "gotthard/mqtt/mqtt-queue.h"

#include <stdio.h>

#define BYTES_MAX (2u << 20) /* of queued events */

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

void gt_mqtt_queue_init(struct gt_mqtt_queue *queue, struct ev_loop *loop, ev_async *wakeup)
{
    *queue = (struct gt_mqtt_queue){.loop = loop, .wakeup = wakeup};
    queue->last = &queue->first;
    pthread_mutex_init(&queue->lock, NULL);
}

void gt_mqtt_queue_deinit(struct gt_mqtt_queue *queue)
{
    for (struct gt_mqtt_event *event; (event = gt_mqtt_queue_pop(queue));)
        free(event);
    pthread_mutex_destroy(&queue->lock);
}

void gt_mqtt_queue_close(struct gt_mqtt_queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    queue->loop = NULL;
    pthread_mutex_unlock(&queue->lock);
}

static bool queue_has_room(const struct gt_mqtt_queue *queue, const struct gt_mqtt_event *event)
{
    return event->type == GT_MQTT_EVENT_ENDED ||
           queue->n_bytes + sizeof(*event) + event->n <= BYTES_MAX;
}

bool gt_mqtt_queue_push(struct gt_mqtt_queue *queue, struct gt_mqtt_event *event)
{
    pthread_mutex_lock(&queue->lock);
    bool is_added = event && queue->loop && queue_has_room(queue, event);
    if (is_added) {
        *queue->last = event;
        queue->last = &event->next;
        queue->n_bytes += sizeof(*event) + event->n;
        ev_async_send(queue->loop, queue->wakeup);
    }
    pthread_mutex_unlock(&queue->lock);
    if (!is_added)
        free(event);
    return is_added;
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
    }
    pthread_mutex_unlock(&queue->lock);
    return event;
}
