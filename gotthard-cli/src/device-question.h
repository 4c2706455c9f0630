/* SPDX-License-Identifier: ISC */
/*
 * Asks a device itself for its state, where the broker has no retained one: a CLOSE that names no
 * epoch and no session has no effect, and the device answers it by a NAK and by its STATE
 * (docs/protocol.md, section 2). Uses a connection of its own.
 */
#pragma once

#include <ev.h>

#include "failure.h"
#include "gotthard/signaling/initiator.h"
#include "identity.h"

struct device_question;

struct device_question_settings { /* all kept until device_question_free */
    struct ev_loop *loop;
    const struct settings *settings;
    const struct identity *identity;
    struct print *print;
    const char *device;
};

struct device_question_events {
    /* The end. @state: authentic and just published, otherwise NULL; borrowed. @failure: the broker
     * cannot be used, otherwise NULL; borrowed. Both are NULL if the device did not answer. Last
     * callback: free the question inside it or later. */
    void (*on_end)(void *userdata, const struct gt_state *state, const struct failure *failure);
};

/* Starts to connect. Returns 0, or 1 with @ret_failure. Callbacks come from the loop. */
int device_question_new(const struct device_question_settings *settings,
                        const struct device_question_events *events, void *userdata,
                        struct device_question **ret, struct failure *ret_failure) GT_MUST_CHECK;
/* Takes NULL; returns NULL. */
struct device_question *device_question_free(struct device_question *question);
