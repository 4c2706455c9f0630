/* SPDX-License-Identifier: ISC */
/*
 * A list of devices with their state, from their retained state messages alone: no request is sent
 * and no device is woken up. Known names without a state are asked by name. The list states whether
 * it is whole (list-verdict.h).
 */
#pragma once

#include <ev.h>

#include "device-table.h"
#include "failure.h"
#include "identity.h"
#include "list-verdict.h"

struct device_list;

struct device_list_settings { /* all kept until device_list_free */
    struct ev_loop *loop;
    const struct settings *settings;
    const struct identity *identity;
    struct print *print;
    const char *device;         /* NULL: all */
    struct device_table *table; /* known names; the states are added to it */
};

struct device_list_events {
    /* The end: the table is complete and sorted by name. @verdict (otherwise NULL) states whether
     * it is whole, unless ->device is set. @failure (otherwise NULL): nothing is known. Both are
     * borrowed. Last callback: free the list inside it or later. */
    void (*on_end)(void *userdata, const struct list_verdict *verdict,
                   const struct failure *failure);
};

/* Starts to connect. Returns 0, or 1 with @ret_failure. Callbacks come from the loop. */
int device_list_new(const struct device_list_settings *settings,
                    const struct device_list_events *events, void *userdata,
                    struct device_list **ret, struct failure *ret_failure) GT_MUST_CHECK;
/* Takes NULL; returns NULL. */
struct device_list *device_list_free(struct device_list *list);
