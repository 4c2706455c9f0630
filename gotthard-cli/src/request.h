/* SPDX-License-Identifier: ISC */
/*
 * One request to one device over MQTT, and its answer: connect to the broker, subscribe to the
 * device's state and answers, send the request with the device's current epoch, and wait. A request
 * for a session is sent with the subscriptions if the epoch is known from the last time. Without
 * an answer, the retained state message decides the failure: unknown device, offline, another key,
 * or no answer.
 *
 * After a session was agreed the request stays at the broker: it receives the device's reports
 * (signaling/report.h) and can withdraw the session, until its owner frees it.
 */
#pragma once

#include <ev.h>

#include "failure.h"
#include "gotthard/signaling/exchange.h"
#include "gotthard/signaling/report.h"
#include "identity.h"

struct request;

struct request_settings { /* all kept until request_free */
    struct ev_loop *loop;
    const struct settings *settings;
    const struct identity *identity;
    struct print *print;
    const char *device;
    const char *service;       /* the first one requested; NULL: request to close sessions */
    enum gt_close_scope scope; /* without ->service: OWN or ALL */
    bool is_query;             /* with ->service "": asks for the status, and opens no session */
    const char *purpose;       /* for the device's log; NULL: none */
    double wait_s; /* how long to wait for a device that is offline, silent or full, and for a
                    * broker that was lost; 0: not */
};

struct request_events {
    /* The connection to the broker is up. */
    void (*on_broker)(void *userdata);
    /* A request for a session was sent. @is_likely: the device will probably answer; false when it
     * turns out not to be online. May repeat the same value. NULL: not wanted. Do not free the
     * request inside. */
    void (*on_sent)(void *userdata, bool is_likely);
    /* The session is agreed; only the next two follow. @answer: borrowed, and its session key is
     * wiped afterwards. Do not free the request inside. Not for a request to close sessions. */
    void (*on_agreed)(void *userdata, const struct gt_answer *answer);
    /* After on_agreed: a new report of the device. Do not free the request inside. */
    void (*on_report)(void *userdata, const struct gt_report *report);
    /* After on_agreed: the agent has left the broker. Its session may continue without it. Do not
     * free the request inside. */
    void (*on_offline)(void *userdata);
    /* The device cannot answer for @why, and is waited for; perhaps NULL. Repeated. Do not free the
     * request inside. */
    void (*on_wait)(void *userdata, const struct failure *why);
    /* The end: @answer if answer->n_closed sessions were closed or the query is answered, otherwise
     * @failure; the other one is NULL. Both are borrowed. Last callback: free the request inside it
     * or later. */
    void (*on_end)(void *userdata, const struct gt_answer *answer, const struct failure *failure);
};

/* Of a query: the seconds from the first publication of the request that was answered. */
double request_round_trip_s(const struct request *request);
/* Starts to connect. Returns 0, or 1 with @ret_failure. Callbacks come from the loop. */
int request_new(const struct request_settings *settings, const struct request_events *events,
                void *userdata, struct request **ret, struct failure *ret_failure) GT_MUST_CHECK;
/* After on_agreed: requests the device to close the session; it leaves before request_free returns.
 * Returns false if there is no connection to the broker. */
bool request_withdraw(struct request *request);
/* Takes NULL; returns NULL. Ends a request in any state. A request for a session that waits for the
 * answer is withdrawn: the device closes the session that it may have opened. */
struct request *request_free(struct request *request);
