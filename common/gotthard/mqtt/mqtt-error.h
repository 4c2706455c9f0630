/* SPDX-License-Identifier: ISC */
/*
 * The end of a connection to a broker: the codes of the library, the kernel and the broker, their
 * description for people, and their meaning for the next attempt. Pure: no descriptor, no thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "gotthard/tls/verification.h"

struct gt_mqtt_error {
    int rc, err; /* the library's last result (mosquitto.h), and errno */
    int reason;  /* of a rejecting CONNACK or of a DISCONNECT, NO_ROUTE, or 0 */
    bool is_v5;  /* the protocol version of the attempt */
    bool is_tls;
    bool was_up;                         /* an accepting CONNACK was received */
    bool is_aborted;                     /* the library failed an assertion */
    char last_error[160];                /* the last error that the library logged, or empty */
    struct gt_verification verification; /* of the broker's certificate */
};

/* Writes the reason for a log line, truncated to @cap bytes with its NUL. */
void gt_mqtt_error_describe(const struct gt_mqtt_error *end, char *ret, size_t cap);
/* Returns true if a broker without MQTT 5 may be the cause: retry with version 3.1.1. */
bool gt_mqtt_error_suggests_v3(const struct gt_mqtt_error *end);
