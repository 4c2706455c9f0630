/* SPDX-License-Identifier: ISC */
/*
 * The events from a connection's thread to the loop: a locked queue and a wake-up. It is bounded,
 * because a broker can send faster than the loop handles its messages. Nothing is dropped: the
 * thread waits for room, does not read meanwhile, and TCP slows the broker down.
 */
#pragma once

#include <ev.h>
#include <pthread.h>

#include "gotthard/mqtt/mqtt-error.h"

enum gt_mqtt_event_type {
    GT_MQTT_EVENT_CONNECTED,  /* TCP and TLS; CONNECT is on its way */
    GT_MQTT_EVENT_UP,         /* an accepting CONNACK */
    GT_MQTT_EVENT_SUBSCRIBED, /* one SUBACK: id; of the first refused filter reason and text */
    GT_MQTT_EVENT_MESSAGE,    /* a PUBLISH within the limits: topic in text, payload */
    GT_MQTT_EVENT_PUBLISHED,  /* a PUBACK: id, reason; the reason in words in text */
    GT_MQTT_EVENT_ENDED,      /* always the last: words in text, effect */
};

struct gt_mqtt_limits {  /* of the broker, from its CONNACK (MQTT 5, section 3.2.2.3) */
    uint32_t max_packet; /* bytes; UINT32_MAX: unlimited, or unknown */
    bool has_retained;   /* it keeps retained messages, or does not say */
};

struct gt_mqtt_probed { /* the result of mqtt-probe.h */
    bool is_known;
    int alert; /* 0: none was received */
};

struct gt_mqtt_event {
    struct gt_mqtt_event *next;
    enum gt_mqtt_event_type type;
    int id, reason;
    unsigned n_refused;           /* SUBSCRIBED: filters */
    struct gt_mqtt_limits limits; /* UP */
    bool is_retained;
    enum gt_mqtt_effect effect; /* ENDED, as the next one */
    const struct gt_mqtt_outcome *outcome;
    struct gt_mqtt_probed probed;
    char text[GT_MQTT_WHY];
    size_t n;
    uint8_t payload[];
};

/* Copies @payload, and @text truncated to its member. Returns NULL without memory. */
struct gt_mqtt_event *gt_mqtt_event_new(enum gt_mqtt_event_type type, const char *text,
                                        struct gt_span payload);

struct gt_mqtt_queue {
    pthread_mutex_t lock;
    pthread_cond_t has_room;             /* or is closed */
    struct gt_mqtt_event *first, **last; /* owned */
    size_t n_bytes, limit;
    struct ev_loop *loop; /* borrows; NULL after close */
    ev_async *wakeup;
};

/* Borrows @loop and @wakeup until close. @limit: bytes of queued events, which one more may exceed;
 * 0: 1 MiB. */
void gt_mqtt_queue_init(struct gt_mqtt_queue *queue, size_t limit, struct ev_loop *loop,
                        ev_async *wakeup);
/* Frees the remaining events. */
void gt_mqtt_queue_deinit(struct gt_mqtt_queue *queue);
/* Stops wake-ups and ends the wait in gt_mqtt_queue_push(). Later events are freed. */
void gt_mqtt_queue_close(struct gt_mqtt_queue *queue);
/* Takes @event. Blocks while the queue is full and open, except with an ENDED. Returns false
 * without an event (NULL). */
bool gt_mqtt_queue_push(struct gt_mqtt_queue *queue, struct gt_mqtt_event *event);
/* Returns the oldest event, which the caller frees, or NULL. */
struct gt_mqtt_event *gt_mqtt_queue_pop(struct gt_mqtt_queue *queue);
