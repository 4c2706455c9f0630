/* SPDX-License-Identifier: ISC */
/*
 * What can go wrong for an operator, each with an id that never changes (`[GTD-E20]`, listed in
 * gotthard(7)) and an exit code that scripts decide by. A failure says what, why, and what to do.
 */
#pragma once

#include "gotthard/base.h"

enum failure_id {
    FAILURE_CONFIG = 10,
    FAILURE_KEY = 11,
    FAILURE_BROKER_UNREACHABLE = 20,
    FAILURE_BROKER_REFUSED = 21,
    FAILURE_UNKNOWN_DEVICE = 30,
    FAILURE_OFFLINE = 31,
    FAILURE_NO_ANSWER = 32,
    FAILURE_UNTRUSTED = 33,
    FAILURE_DENIED = 40,
    FAILURE_NO_SERVICE = 41,
    FAILURE_QUOTA = 42,
    FAILURE_NO_RELAY = 43,
    FAILURE_DEVICE_INTERNAL = 44,
    FAILURE_RELAY_UNREACHABLE = 50,
    FAILURE_RELAY_REFUSED = 51,
    FAILURE_RELAY_FULL = 52,
    FAILURE_RELAY_ERROR = 53,
    FAILURE_PORT_BUSY = 60,
    FAILURE_BIND = 61,
    FAILURE_TUNNEL_LOST = 70,
    FAILURE_DEVICE_LOST = 71,
    FAILURE_INTERNAL = 99,
};

enum {
    EXIT_USAGE = 64,
    EXIT_UNREACHABLE = 69,
    EXIT_INTERNAL = 70,
    EXIT_TRY_AGAIN = 75,
    EXIT_PROTOCOL = 76,
    EXIT_REFUSED = 77,
    EXIT_CONFIGURATION = 78,
    EXIT_INTERRUPTED = 130,
};

struct failure {
    enum failure_id id;
    char message[640]; /* what and why; no control characters */
    const char *hint;  /* what to do; static, never NULL once set */
};

/* Fills @ret, with the id's usual hint unless @hint is given (static). Returns 1, the condition
 * "it failed", so that callers can return it. */
int failure_set(struct failure *ret, enum failure_id id, const char *hint, const char *fmt, ...)
    GT_PRINTF(4, 5);
int failure_exit(enum failure_id id);
