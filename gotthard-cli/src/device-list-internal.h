/* SPDX-License-Identifier: ISC */
/* The state of a list. For device-list.c, which has its course, and device-list-requests.c. */
#pragma once

#include "device-list.h"
#include "gotthard/mqtt/mqtt.h"
#include "gotthard/signaling/topic.h"
#include "settling.h"

#define DEVICE_LIST_SILENCE_S  .3 /* shortest, where the broker sent states */
#define DEVICE_LIST_PATIENCE_S 1. /* shortest, where states are missing */

enum device_list_state {
    DEVICE_LIST_CONNECTING,
    DEVICE_LIST_ALL,   /* the subscription to all devices, or to the one */
    DEVICE_LIST_NAMES, /* subscriptions to known names */
    DEVICE_LIST_DONE,
};

struct device_list {
    struct device_list_settings settings;
    struct device_list_events events;
    void *userdata; /* keeps */
    enum device_list_state state;
    ev_timer timer;
    struct gt_mqtt *mqtt; /* owned */
    char topic[GT_TOPIC_MAX + 1], marker[GT_TOPIC_MAX + 1];
    struct settling settling;
    int all_id;                /* of the subscription to all devices */
    size_t n_retained;         /* retained states from the subscription to all devices */
    unsigned n_outstanding;    /* requests without an answer */
    double asked_at;           /* of the last request */
    bool is_all_asked;         /* ... or refused */
    bool has_names;            /* devices were known before; their states may be as well */
    struct device_row *next;   /* of the rows that may still be asked */
    size_t n_before;           /* devices with an authentic state before this pass */
    size_t n_awaited;          /* names of this round without a state */
    size_t n_found;            /* names of this round with one */
    double began_at, shown_at; /* by gt_clock() */
    double authentic_at;       /* the last authentic state, or the begin of the phase */
    struct list_facts facts;
    bool is_failed;
    struct failure failure;
};

void device_list_enter(struct device_list *list, enum device_list_state state);
/* Each ends the list. The owner is notified from the loop. */
void device_list_finish(struct device_list *list);
void device_list_fail(struct device_list *list); /* with ->failure */
void device_list_lose(struct device_list *list, const char *why);
/* Acts on the events so far. */
void device_list_step(struct device_list *list);

/* Subscribes to all devices, or to the one; to as many known names without a state as one
 * connection may; to the marker. An error ends the list. */
void device_list_ask_all(struct device_list *list);
void device_list_ask_names(struct device_list *list);
void device_list_mark(struct device_list *list);
/* Sends a marker in half of each keep-alive interval: the answer to the library's own PINGREQ comes
 * behind all queued messages, and it closes the connection without one. Returns the time of the
 * next one. */
double device_list_keep_alive(struct device_list *list, double now);
/* Returns the number of known names that have no state and were not asked. */
size_t device_list_count_unasked(const struct device_list *list);
