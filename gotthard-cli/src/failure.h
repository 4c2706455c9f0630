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
    FAILURE_BROKER_UNREACHABLE = 20,
    FAILURE_BROKER_REFUSED = 21,
    FAILURE_UNKNOWN_DEVICE = 30,
    FAILURE_OFFLINE = 31,
    FAILURE_NO_ANSWER = 32,
    FAILURE_UNTRUSTED = 33,
    FAILURE_LIST_NOT_WHOLE = 34,
    FAILURE_DENIED = 40,
    FAILURE_NO_SERVICE = 41,
    FAILURE_QUOTA = 42,
    FAILURE_NO_RELAY = 43,
    FAILURE_DEVICE_INTERNAL = 44,
    FAILURE_WITHDRAWN = 45,
    FAILURE_RELAY_UNREACHABLE = 50,
    FAILURE_RELAY_REFUSED = 51,
    FAILURE_RELAY_FULL = 52,
    FAILURE_RELAY_ERROR = 53,
    FAILURE_DEVICE_RELAY = 54,
    FAILURE_RELAY_LIMIT = 55,
    FAILURE_PORT_BUSY = 60,
    FAILURE_BIND = 61,
    FAILURE_TUNNEL_LOST = 70,
    FAILURE_DEVICE_LOST = 71,
    FAILURE_TUNNEL_IDLE = 72,
    FAILURE_TUNNEL_EXPIRED = 73,
    FAILURE_INTERNAL = 99,
};

struct failure {
    enum failure_id id;
    char message[640]; /* what failed and why; escaped where it is printed */
    const char *hint;  /* what to do; static, never NULL once set */
};

/* Sets @ret. @hint: static, or NULL for the hint of the id. Always returns 1, the condition
 * "failed", so that callers can return it. */
int failure_set(struct failure *ret, enum failure_id id, const char *hint, const char *fmt, ...)
    GT_PRINTF(4, 5);
/* Returns the exit status of @id. */
int failure_exit(enum failure_id id);
