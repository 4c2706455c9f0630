/* SPDX-License-Identifier: ISC */
/*
 * How a connection to a broker ended, as the library, the kernel and the broker told it, and what
 * that means for people and for the next attempt. Pure: no descriptor, no thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct gt_broker_end {
    int rc, err;          /* the library's last word (mosquitto.h), and errno then */
    int reason;           /* of a CONNACK that refuses, of the broker's DISCONNECT, or NO_WAY; 0 */
    bool is_v5;           /* what was spoken */
    bool was_up;          /* there was a CONNACK that accepts */
    bool is_spoiled;      /* the library gave up in the middle of a turn */
    char last_error[160]; /* what it logged last as an error; may be empty */
};

/* Why, in words for a log line; cut at @cap. */
void gt_broker_end_explain(const struct gt_broker_end *end, char *ret, size_t cap);
/* Could a broker that does not speak MQTT 5 have ended it like this? */
bool gt_broker_end_may_be_older(const struct gt_broker_end *end);
