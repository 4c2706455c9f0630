/* SPDX-License-Identifier: ISC */
/*
 * One question to one device over MQTT, and its one answer: connect to the broker, listen to the
 * device's presence and to its answers, ask with the right epoch, wait. When no answer comes, what
 * was seen decides what is said: unknown device, offline, another key, or just silent.
 */
#pragma once

#include <ev.h>

#include "failure.h"
#include "gotthard/exchange.h"
#include "identity.h"

struct request;

struct request_settings { /* all kept until request_free */
    struct ev_loop *loop;
    const struct settings *settings;
    const struct identity *identity;
    struct print *print;
    const char *device;
    const char *service; /* the first one wanted; NULL: the question is CLOSE all */
};

struct request_events {
    void (*on_broker)(void *userdata); /* connected to it */
    /* Agreed (or closed: answer->n_closed). Last callback; free the request here or later. */
    void (*on_answer)(void *userdata, const struct gt_answer *answer);
    /* No. Last callback, as above. */
    void (*on_failure)(void *userdata, const struct failure *failure);
};

/* 0, or 1 with @ret_failure. The first callback comes from the loop. */
int request_new(const struct request_settings *settings, const struct request_events *events,
                void *userdata, struct request **ret, struct failure *ret_failure) GT_MUST_CHECK;
/* Takes NULL. */
struct request *request_free(struct request *request);
