/* SPDX-License-Identifier: ISC */
/*
 * The failures of a command, each with a permanent id (`[GTD-E20]`, listed in gotthard(7)) and an
 * exit status for scripts. A failure states what failed, why, and what to do.
 */
#pragma once

#include "gotthard/base/base.h"
#include "gotthard/base/exit-status.h"

enum failure_id {
    FAILURE_CONFIG = 10,
    FAILURE_KEY = 11,
    FAILURE_USAGE = 12,
    FAILURE_CLOCK = 13,
    FAILURE_CERTIFICATE = 14,
    FAILURE_AUTHORITY = 15,
    FAILURE_LIST_NEWER = 16,
    FAILURE_CA = 17,
    FAILURE_ENROLMENT = 18,
    FAILURE_NAME = 19,
    FAILURE_BROKER_UNREACHABLE = 20,
    FAILURE_BROKER_REFUSED = 21,
    FAILURE_BROKER_UNTRUSTED = 22,
    FAILURE_BROKER_FOREIGN = 23,
    FAILURE_UNKNOWN_DEVICE = 30,
    FAILURE_OFFLINE = 31,
    FAILURE_NO_ANSWER = 32,
    FAILURE_UNTRUSTED = 33,
    FAILURE_LIST_NOT_WHOLE = 34,
    FAILURE_LIST_NOT_EVERYWHERE = 35,
    FAILURE_NO_COUNTERPART = 36,
    FAILURE_AUDIT_BROKEN = 37,
    FAILURE_AUDIT_UNREADABLE = 38,
    FAILURE_DENIED = 40,
    FAILURE_NO_SERVICE = 41,
    FAILURE_QUOTA = 42,
    FAILURE_NO_RELAY = 43,
    FAILURE_DEVICE_INTERNAL = 44,
    FAILURE_WITHDRAWN = 45,
    FAILURE_TARGET = 46,
    FAILURE_CLOSED = 47,
    FAILURE_VERSION = 48,
    FAILURE_RELAY_UNREACHABLE = 50,
    FAILURE_RELAY_REFUSED = 51,
    FAILURE_RELAY_FULL = 52,
    FAILURE_RELAY_ERROR = 53,
    FAILURE_DEVICE_RELAY = 54,
    FAILURE_RELAY_LIMIT = 55,
    FAILURE_PROXY = 56,
    FAILURE_PORT_BUSY = 60,
    FAILURE_BIND = 61,
    FAILURE_TUNNEL_LOST = 70,
    FAILURE_DEVICE_LOST = 71,
    FAILURE_TUNNEL_IDLE = 72,
    FAILURE_TUNNEL_EXPIRED = 73,
    FAILURE_INTERNAL = 99,
};

/* For a device whose messages do not open. */
#define FAILURE_HINT_OTHER_KEY                                                                   \
    "check {crypt.key}; if it is the fleet's key, the device has another one: generate its key " \
    "again with gotthard-cli keygen device {device}"
#define FAILURE_HINT 640 /* bytes, with the NUL */

struct failure {
    enum failure_id id;
    char message[640];       /* what failed and why; escaped where it is printed */
    char hint[FAILURE_HINT]; /* what to do, likewise; never empty once set */
};

/*
 * Sets @ret. @hint: copied; NULL: the hint of the id. In a hint "{mqtt.endpoint}" becomes the name
 * of that setting with the place that its value came from, "{+mqtt.endpoint}" the place in which to
 * set it (config-mention.h), and "{device}" the device, which failure_set() does not know. Always
 * returns 1, the condition "failed", so that callers can return it.
 */
int failure_set(struct failure *ret, enum failure_id id, const char *hint, const char *fmt, ...)
    GT_PRINTF(4, 5);
/* The same for a failure that concerns @device. */
int failure_set_of(struct failure *ret, const char *device, enum failure_id id, const char *hint,
                   const char *fmt, ...) GT_PRINTF(5, 6);
/* The broker has no state of @device. @why: "has no state of it". Returns 1. */
int failure_set_unknown(struct failure *ret, const char *device, const char *why);
/* Replaces the hint by a formatted text, with settings in braces as above. */
void failure_hint(struct failure *failure, const char *fmt, ...) GT_PRINTF(2, 3);
/* The settings whose origins hints name. A process has one configuration; kept until the next call.
 * NULL: hints name settings without origins. */
struct gt_config;
void failure_use_settings(const struct gt_config *config);
/* Returns @id, or FAILURE_INTERNAL if it is no failure's: for a number from outside. */
enum failure_id failure_known(unsigned id);
/* Returns the exit status of @id. */
int failure_exit(enum failure_id id);
