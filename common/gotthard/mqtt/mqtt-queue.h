/* SPDX-License-Identifier: ISC */
/*
 * The events from a connection's thread to the loop: a locked queue and a wake-up. It is bounded,
 * because a broker can send faster than the loop handles its messages.
 */
#pragma once

#include <ev.h>
#include <pthread.h>

#include "gotthard/signaling/message.h"

enum gt_mqtt_event_type {
    GT_MQTT_EVENT_UP,         /* an accepting CONNACK */
    GT_MQTT_EVENT_SUBSCRIBED, /* one SUBACK */
    GT_MQTT_EVENT_MESSAGE,    /* a PUBLISH within the limits: topic in text, payload */
    GT_MQTT_EVENT_PUBLISHED,  /* a PUBACK: id, reason; the reason in words in text */
    GT_MQTT_EVENT_ENDED,      /* always the last: description in text, reason */
};

struct gt_mqtt_event {
    struct gt_mqtt_event *next;
    enum gt_mqtt_event_type type;
    int id, reason;
    bool is_retained;
    bool is_version; /* ENDED: the broker may not support MQTT 5 */
    char text[GT_TOPIC_MAX + 1];
    size_t n;
    uint8_t payload[];
};

/* Copies @payload, and @text truncated to its member. Returns NULL without memory. */
struct gt_mqtt_event *gt_mqtt_event_new(enum gt_mqtt_event_type type, const char *text,
                                        struct gt_span payload);

struct gt_mqtt_queue {
    pthread_mutex_t lock;
    struct gt_mqtt_event *first, **last; /* owned */
    size_t n_bytes;
    struct ev_loop *loop; /* borrows; NULL after close */
    ev_async *wakeup;
};

/* Borrows @loop and @wakeup until close. */
void gt_mqtt_queue_init(struct gt_mqtt_queue *queue, struct ev_loop *loop, ev_async *wakeup);
/* Frees the remaining events. */
void gt_mqtt_queue_deinit(struct gt_mqtt_queue *queue);
/* Stops wake-ups; later events are dropped. */
void gt_mqtt_queue_close(struct gt_mqtt_queue *queue);
/* Takes @event, which may be NULL. Returns false if it was dropped: the queue is full or closed. An
 * ENDED is never too much for a full queue. */
bool gt_mqtt_queue_push(struct gt_mqtt_queue *queue, struct gt_mqtt_event *event);
/* Returns the oldest event, which the caller frees, or NULL. */
struct gt_mqtt_event *gt_mqtt_queue_pop(struct gt_mqtt_queue *queue);
