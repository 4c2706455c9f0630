/* SPDX-License-Identifier: ISC */
/*
 * The private part of a connection to a broker, for its three files only: mqtt-connection.c has the
 * functions for the loop's thread, mqtt-thread.c runs the library, mqtt-callbacks.c has the
 * library's callbacks.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "gotthard/mqtt/mqtt-connection.h"
#include "gotthard/mqtt/mqtt-error.h"
#include "gotthard/mqtt/mqtt-race.h"

enum gt_mqtt_connection_state {
    GT_MQTT_CONNECTION_CONNECTING, /* in the race of addresses */
    GT_MQTT_CONNECTION_RUNNING,    /* in mosquitto_loop() or in poll() */
    GT_MQTT_CONNECTION_STOPPING,   /* the owner waits for the last acknowledgement and DISCONNECT */
    GT_MQTT_CONNECTION_DONE,       /* the thread does not use the struct any more */
    GT_MQTT_CONNECTION_ABANDONED,  /* the owner is gone; the thread frees everything */
};

struct gt_mqtt_connection {
    pthread_mutex_t lock; /* for state, n_unacknowledged and how.last_error */
    pthread_cond_t ended;
    enum gt_mqtt_connection_state state;
    pthread_t thread;
    unsigned n_unacknowledged;  /* published */
    struct gt_mqtt_queue queue; /* closed in STOPPING and ABANDONED */

    atomic_bool is_check_due;     /* the network has changed */
    atomic_bool is_out_of_memory; /* something was lost that the owner waits for */
    int wakeup_fd;                /* eventfd: output is queued, or the state has changed */
    struct gt_mqtt_race race;
    struct mosquitto *mosquitto; /* the winner; NULL before */
    bool has_will;
    int keepalive_s;
    struct gt_proxy proxy;      /* kind NONE: none */
    struct gt_host_port broker; /* for the proxy */

    /* Used by the thread only. */
    bool is_connected; /* TCP and TLS; reported */
    bool has_begun;    /* an iteration is done */
    struct gt_mqtt_limits limits;
    struct gt_mqtt_probed probed; /* of the attempt before; then of this one */
    struct gt_mqtt_error how;     /* the state of knowledge; is_v5 is set at the start */
    struct gt_mqtt_event *end;    /* allocated in advance: ENDED must not fail */
};

/* Must be called first. */
void gt_mqtt_connection_init_locks(struct gt_mqtt_connection *connection);
unsigned gt_mqtt_connection_n_unacknowledged(struct gt_mqtt_connection *connection);
/* Adds @more (1 or -1) to the number of unacknowledged messages. */
void gt_mqtt_connection_count_unacknowledged(struct gt_mqtt_connection *connection, int more);
/* Wakes the thread. */
void gt_mqtt_connection_wake_up(struct gt_mqtt_connection *connection);
/* Only without a thread, or in the thread of an abandoned connection. */
void gt_mqtt_connection_destroy(struct gt_mqtt_connection *connection);

/* Takes @event. NULL (without memory) ends the connection: the owner must not miss an event. */
void gt_mqtt_connection_report(struct gt_mqtt_connection *connection, struct gt_mqtt_event *event);
/* Ends the connection: memory was not available for something that the owner waits for. */
void gt_mqtt_connection_run_out_of_memory(struct gt_mqtt_connection *connection);

void gt_mqtt_connection_set_callbacks(struct mosquitto *mosquitto);

/* Returns true if too many abandoned threads exist. */
bool gt_mqtt_thread_limit_reached(void);
/* Returns 0 or a negative errno. */
int gt_mqtt_thread_start(struct gt_mqtt_connection *connection) GT_MUST_CHECK;
/* Asks a thread that is connected to disconnect, and waits for it at most @timeout_ms. */
void gt_mqtt_thread_stop(struct gt_mqtt_connection *connection, unsigned timeout_ms);
/* Frees @connection, now or in its thread as soon as that returns. */
void gt_mqtt_thread_abandon(struct gt_mqtt_connection *connection);
