/* SPDX-License-Identifier: ISC */
/*
 * What devices say of themselves, from their retained messages alone: nobody is asked, no device
 * is woken. One look takes as long as the broker keeps naming other devices, and 0.3 s more.
 */
#pragma once

#include <ev.h>

#include "failure.h"
#include "gotthard/message.h"
#include "identity.h"

struct presence;

struct presence_device {
    char name[GT_NAME_MAX + 1];
    bool is_authentic; /* sealed with this fleet's key; otherwise nothing below is known */
    bool is_online;
    char version[64];
    char services[1024]; /* "ssh web" */
    unsigned n_sessions;
    uint64_t since; /* unix time, 0: not told */
};

struct presence_settings { /* all kept until presence_free */
    struct ev_loop *loop;
    const struct settings *settings;
    const struct identity *identity;
    struct print *print;
    const char *device; /* NULL: all */
};

struct presence_events {
    /* Last callback, sorted by name; borrowed. Free the presence here or later. */
    void (*on_devices)(void *userdata, const struct presence_device *devices, size_t n_devices);
    void (*on_failure)(void *userdata, const struct failure *failure);
};

int presence_new(const struct presence_settings *settings, const struct presence_events *events,
                 void *userdata, struct presence **ret, struct failure *ret_failure) GT_MUST_CHECK;
struct presence *presence_free(struct presence *presence);
