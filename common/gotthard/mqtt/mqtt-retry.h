/* SPDX-License-Identifier: ISC */
/*
 * When to connect again after a failure, and how long to wait for CONNACK. A broker that restarts
 * loses all its clients in one moment, and must not get them all back in one moment. Pure: no
 * clock, no timer.
 */
#pragma once

#include <stdint.h>

#include "gotthard/mqtt/mqtt-error.h"

struct gt_mqtt_retry {
    unsigned spread_ms;  /* of the first wait after a loss; 0: no spread */
    bool is_spreading;   /* until the next connection */
    unsigned n_spread;   /* waits since then */
    unsigned n_failures; /* in a row, of any kind */
    unsigned n_short;    /* short-lived connections in a row */
    unsigned n_busy;     /* ends in a row at a busy broker */
    unsigned wait_ms;    /* the last wait */
    bool is_own_network; /* this machine's network may have caused the last end */
};

struct gt_mqtt_retry_end {
    enum gt_mqtt_effect effect;
    bool was_up;
    double lasted_s; /* was_up */
    bool is_awaited; /* an operator waits for this connection: without spread */
};

/* Records the end, and returns the wait before the next attempt in ms, at least 1. @random: any
 * number. */
unsigned gt_mqtt_retry_next(struct gt_mqtt_retry *retry, const struct gt_mqtt_retry_end *end,
                            uint64_t random);
/* The connection is up. */
void gt_mqtt_retry_up(struct gt_mqtt_retry *retry);
/* This machine's network has changed. Returns true if the wait may be shortened: the last failure
 * may have been our own network's. A wait for the broker, or for another client with our client id,
 * stays. */
bool gt_mqtt_retry_network_changed(struct gt_mqtt_retry *retry);
/* Returns true if short-lived connections suggest that another client uses our client id. */
bool gt_mqtt_retry_has_rival(const struct gt_mqtt_retry *retry);
/* Returns the time limit of the next attempt: @limit_s, and longer while the broker is busy or gets
 * all its clients back. */
unsigned gt_mqtt_retry_connack_s(const struct gt_mqtt_retry *retry, unsigned limit_s);
