/* SPDX-License-Identifier: ISC */
/*
 * The states of devices as they are published: a subscription that lasts, also through losses of
 * the broker. A broker that refuses the subscription to all devices is asked for known names, as
 * many as one connection may (48). States that were published while there was no connection are
 * missing: the owner reads a list after each on_ready.
 */
#pragma once

#include <ev.h>

#include "device-table.h"
#include "failure.h"
#include "identity.h"
#include "print.h"

struct live_states;

struct live_states_settings { /* all kept until live_states_free */
    struct ev_loop *loop;
    const struct settings *settings;
    const struct identity *identity;
    struct print *print;
};

struct live_states_events {
    /* The subscription is granted, for the first time or again. @n_not_watched: known names beyond
     * the limit of a connection. */
    void (*on_ready)(void *userdata, size_t n_not_watched);
    /* A state that opened with the fleet's key. */
    void (*on_state)(void *userdata, const char *device, const struct gt_state *state,
                     bool is_retained);
    /* The connection was lost; the next attempt begins in @retry_ms. */
    void (*on_lost)(void *userdata, const char *why, unsigned retry_ms);
    /* The connection was never up, or a subscription is refused. Last callback. */
    void (*on_failed)(void *userdata, const struct failure *failure);
    /* Returns the table with the known names. */
    const struct device_table *(*names)(void *userdata);
};

/* Starts to connect. Returns 0, or 1 with @ret_failure. Callbacks come from the loop. */
int live_states_new(const struct live_states_settings *settings,
                    const struct live_states_events *events, void *userdata,
                    struct live_states **ret, struct failure *ret_failure) GT_MUST_CHECK;
/* Takes NULL; returns NULL. May be called from on_failed, and from no other callback. */
struct live_states *live_states_free(struct live_states *live);
