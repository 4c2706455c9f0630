/* SPDX-License-Identifier: ISC */
/*
 * The device at its broker: the connection that comes back for ever, and the retained STATE that
 * says whether the device is there, with its twin, the last will. What is heard goes to the whole.
 */
#pragma once

#include "gotthard/mqtt.h"
#include "inbox.h"
#include "setup.h"

struct presence_events {
    void (*on_message)(void *userdata, const char *topic, bool is_retained, struct gt_span payload);
    /* The connection came or went. */
    void (*on_change)(void *userdata);
    /* "offline" has reached the broker, or cannot: after presence_say_goodbye. */
    void (*on_gone)(void *userdata);
};

struct presence {
    struct ev_loop *loop;
    const struct presence_events *events;
    void *userdata;
    const struct setup *setup; /* keeps */
    struct inbox *inbox;       /* keeps */
    struct gt_mqtt *mqtt;      /* owned */
    uint64_t online_since;     /* unix time, for people */
    bool is_leaving;
    int goodbye;        /* the publish id of the offline STATE */
    ev_timer state_due; /* many changes make one STATE */
};

void presence_init(struct presence *presence, struct ev_loop *loop,
                   const struct presence_events *events, void *userdata);
/* Connects as @setup says, under the names of @inbox. */
int presence_open(struct presence *presence, const struct setup *setup,
                  struct inbox *inbox) GT_MUST_CHECK;
/* After a reload that left the broker, the names and the keys alone. */
void presence_set(struct presence *presence, const struct setup *setup);
/* Says "offline", if it can, and disconnects. May be opened again. */
void presence_close(struct presence *presence);

bool presence_is_up(const struct presence *presence);
/* STATE says something new: publish it soon. */
void presence_changed(struct presence *presence);
void presence_answer(struct presence *presence, const char *topic, struct gt_span payload);
/* Publishes "offline"; on_gone follows, maybe from inside this call. */
void presence_say_goodbye(struct presence *presence);
