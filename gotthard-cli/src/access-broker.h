/* SPDX-License-Identifier: ISC */
/*
 * The access list at the broker, for the authority: reads which list is there, and publishes
 * another one. Part 0 states serial and hash of the whole list, so that it alone is read, and is
 * published last. A broker that acknowledges a message may have dropped it (MQTT 3.1.1), so part 0
 * is read again afterwards. The functions run the loop until they are done.
 */
#pragma once

#include "authority.h"
#include "commands.h"
#include "gotthard/trust/access-parts.h"
#include "identity.h"
#include "mqtt-connect.h"
#include "settling.h"

enum access_broker_state {
    ACCESS_BROKER_CONNECTING,
    ACCESS_BROKER_READING,
    ACCESS_BROKER_READY,
    ACCESS_BROKER_PUBLISHING,
    ACCESS_BROKER_FETCHING,
    ACCESS_BROKER_FAILED,
};

/* What a valid part 0 states. */
struct access_at_broker {
    uint64_t serial; /* 0: no list of this authority */
    uint8_t hash[GT_KEY_SIZE];
    size_t n_parts;
};

struct access_broker { /* fields are private, but ->found, ->n_parts and ->text */
    struct context *context;
    const struct authority *authority;
    struct identity *identity;
    struct gt_mqtt *mqtt;
    enum access_broker_state state;
    struct settling settling;
    ev_timer timer;
    char topic[GT_TOPIC_MAX + 1]; /* of part 0 */
    struct access_at_broker found;
    size_t n_parts; /* of the list that is published */
    size_t n_total; /* messages: its parts, and the deletions of other ones */
    size_t n_sent, n_acknowledged;
    struct gt_access_assembly assembly; /* of the list that is fetched */
    uint8_t *text;                      /* owned; that list once it is whole */
    size_t n_text;
    bool is_interrupted;
    struct failure failure;
};

/* Each returns 0, or 1 with @ret_failure, or ACCESS_BROKER_E_INTERRUPTED after a signal. */
enum { ACCESS_BROKER_E_INTERRUPTED = 2 };
/* Connects and reads. Keeps the pointers; the caller has loaded the signer of @identity, and calls
 * access_broker_close() in any case. */
int access_broker_open(struct context *context, const struct authority *authority,
                       struct identity *identity, struct access_broker *ret,
                       struct failure *ret_failure) GT_MUST_CHECK;
/* Returns 0 if the list at the broker is the one of ->authority, an older one, or none. */
int access_broker_check(const struct access_broker *broker,
                        struct failure *ret_failure) GT_MUST_CHECK;
/* Publishes the list of ->authority, and removes parts beyond its last one. @n_before: bytes of the
 * list before it. */
int access_broker_publish(struct access_broker *broker, size_t n_before,
                          struct failure *ret_failure) GT_MUST_CHECK;
/* Receives the whole list that is at the broker: ->text. ->found has one. */
int access_broker_fetch(struct access_broker *broker, struct failure *ret_failure) GT_MUST_CHECK;
void access_broker_close(struct access_broker *broker);
