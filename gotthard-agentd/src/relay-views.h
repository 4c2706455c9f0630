/* SPDX-License-Identifier: ISC */
/*
 * What the sessions of this device have found out about each relay, for `gotthard-cli status`. The
 * listener itself never connects to a relay.
 */
#pragma once

#include "gotthard/signaling/device-status.h"
#include "target.h"

struct relay_view {
    char name[GT_RELAY_NAME_MAX + 1];
    bool is_failed;
    double at; /* seconds of gt_clock() */
    char why[160];
};

struct relay_views {
    struct relay_view all[GT_STATUS_RELAYS_MAX];
    size_t n;
};

/* @why: the reason of a failure, or NULL: it was reached. A relay beyond the limit replaces the one
 * with the oldest news. */
void relay_views_note(struct relay_views *views, const char *name, const char *why, double now);
/* Sets the relays of @ret to the configured ones, as many as it has room for. */
void relay_views_fill(const struct relay_views *views, const struct targets *relays, double now,
                      struct gt_device_status *ret);
