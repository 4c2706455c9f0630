/* SPDX-License-Identifier: ISC */
/*
 * A list of devices with their state, from their retained state messages alone: no request is sent
 * and no device is woken up. It takes as long as the broker sends messages of new devices, and 0.3
 * seconds more.
 */
#pragma once

#include <ev.h>

#include "failure.h"
#include "gotthard/signaling/message.h"
#include "identity.h"

struct device_list;

struct device_list_entry {
    char name[GT_NAME_MAX + 1];
    bool is_authentic; /* encrypted with this fleet's key; otherwise the other fields are unknown */
    bool is_online;
    char version[64];
    char services[1024]; /* "ssh web" */
    unsigned n_sessions;
    uint64_t since; /* unix time, 0: unknown */
};

struct device_list_settings { /* all kept until device_list_free */
    struct ev_loop *loop;
    const struct settings *settings;
    const struct identity *identity;
    struct print *print;
    const char *device; /* NULL: all */
};

struct device_list_events {
    /* The end: the list, sorted by name, or @failure (otherwise NULL) with an empty list. Both are
     * borrowed. Last callback: free the list inside it or later. */
    void (*on_end)(void *userdata, const struct device_list_entry *entries, size_t n_entries,
                   const struct failure *failure);
};

/* Starts to connect. Returns 0, or 1 with @ret_failure. Callbacks come from the loop. */
int device_list_new(const struct device_list_settings *settings,
                    const struct device_list_events *events, void *userdata,
                    struct device_list **ret, struct failure *ret_failure) GT_MUST_CHECK;
/* Takes NULL; returns NULL. */
struct device_list *device_list_free(struct device_list *list);
