/* SPDX-License-Identifier: ISC */
/*
 * The parts of the access list's broker: states and connection (access-broker.c), reading the
 * list (access-broker-read.c), and publishing it (access-broker-publish.c). Only these files
 * include this header.
 */
#pragma once

#include "access-broker.h"

#define ACCESS_BROKER_HINT                                                                   \
    "permit this operator to publish to {mqtt.prefix}/fleet/access/+ and to read it at the " \
    "broker, as mosquitto-example.acl shows; then run gotthard-cli access publish"

void access_broker_set_timer(struct access_broker *broker, double seconds);
/* With READY and FAILED the function that runs the loop returns. */
void access_broker_enter(struct access_broker *broker, enum access_broker_state state);
void access_broker_fail_mqtt(struct access_broker *broker, const char *why);
/* The broker does not take the list, for the reason @why. */
void access_broker_fail_refused(struct access_broker *broker, const char *why);
/* Runs the loop until the state is READY or FAILED. Returns as the functions of the header. */
int access_broker_run(struct access_broker *broker, struct failure *ret_failure) GT_MUST_CHECK;

/* Reads part 0: READING. */
void access_broker_read(struct access_broker *broker);
void access_broker_read_step(struct access_broker *broker);
/* READING: a retained part 0. */
void access_broker_read_part(struct access_broker *broker, struct gt_span payload);
/* FETCHING: any part. */
void access_broker_fetch_part(struct access_broker *broker, struct gt_span payload);

/* PUBLISHING: events of a message. */
void access_broker_on_published(void *userdata, int id, bool has_no_subscribers);
void access_broker_on_refused(void *userdata, int id, const char *why);
