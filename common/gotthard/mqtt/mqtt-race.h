/* SPDX-License-Identifier: ISC */
/*
 * From the broker's addresses to one connected client of the library: "Happy Eyeballs" (RFC 8305).
 * For mqtt-connection.c and mqtt-thread.c only.
 */
#pragma once

#include <mosquitto.h>

#include "gotthard/net/resolve.h"

struct gt_mqtt_candidate {
    struct mosquitto *mosquitto; /* owned; NULL: failed, or taken as the winner */
    struct gt_addr addr;
};

struct gt_mqtt_race {
    struct gt_mqtt_candidate candidates[GT_RESOLVE_MAX];
    size_t n;
    struct ssl_ctx_st *tls; /* owned reference; NULL: without TLS */
    int keepalive_s;
    bool is_v5;
    int wakeup_fd; /* an eventfd */
    /* Called after each wake-up. Returns true if the race is to end without a winner. */
    bool (*is_over)(void *userdata);
    void *userdata;
    struct gt_addr reached; /* the last address that accepted TCP; ->n 0: none */
};

/*
 * Connects the candidates by TCP, each 250 ms after the one before or at its failure, and blocks
 * until one is connected. Returns MOSQ_ERR_SUCCESS with *ret, which the caller destroys; another
 * code of the library, with errno, for the first failure; or MOSQ_ERR_NO_CONN if ->is_over() has
 * ended it. All others are destroyed.
 */
int gt_mqtt_race_run(struct gt_mqtt_race *race, struct mosquitto **ret) GT_MUST_CHECK;
/* Destroys the remaining candidates, and releases the TLS context. */
void gt_mqtt_race_deinit(struct gt_mqtt_race *race);
