/* SPDX-License-Identifier: ISC */
/* The changes in the row of a device between two looks at it. */
#pragma once

#include "selection.h"

enum {
    DEVICE_CHANGE_APPEARED = 1 << 0, /* no state was known before */
    DEVICE_CHANGE_ONLINE = 1 << 1,   /* came online, or went offline */
    DEVICE_CHANGE_SESSIONS = 1 << 2,
    DEVICE_CHANGE_SERVICES = 1 << 3,
    DEVICE_CHANGE_TAGS = 1 << 4,
    DEVICE_CHANGE_VERSION = 1 << 5,
    DEVICE_CHANGE_SELECTED = 1 << 6, /* by the selection, which it was not before, or vice versa */
};

struct device_changes; /* the last look at each row */

/* Returns NULL without memory. */
struct device_changes *device_changes_new(const struct selection *selection);
struct device_changes *device_changes_free(struct device_changes *changes);
/* Compares the row with the last look at it, which is replaced. Returns the bits of the changes; 0
 * if there are none, if the state of the row is not known, or if the selection accepts the row
 * neither now nor then. */
unsigned device_changes_take(struct device_changes *changes, const struct device_row *row);
