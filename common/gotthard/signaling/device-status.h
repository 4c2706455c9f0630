/* SPDX-License-Identifier: ISC */
/*
 * The answer of a device to the query of an operator: its sessions, as far as the operator may see
 * them, and its way to each relay. Sent in an ACK, extension 8. For display only: nothing is
 * decided by it. See docs/protocol.md, section 2.
 */
#pragma once

#include "gotthard/signaling/message.h"

#define GT_STATUS_SESSIONS_MAX 16
#define GT_STATUS_RELAYS_MAX   4
#define GT_STATUS_SIZE         3072 /* bytes of the encoding, at most */

enum gt_status_session_state {
    GT_STATUS_JOINING, /* not up on both sides yet */
    GT_STATUS_UP,
    GT_STATUS_ALONE, /* was up, and the operator is lost */
};

struct gt_status_session {
    char operator_[GT_NAME_MAX + 1];
    char service[GT_SERVICE_MAX + 1]; /* the one requested first; "": unknown */
    uint8_t state;                    /* enum gt_status_session_state */
    uint32_t age_s;
    bool has_usage; /* the next three are known: not for a session of an earlier listener */
    uint16_t n_streams;
    uint64_t n_up, n_down; /* bytes from and to the operator's side since the beginning */
};

enum gt_status_relay_state {
    GT_STATUS_RELAY_UNKNOWN, /* no session has used it since the agent's start */
    GT_STATUS_RELAY_REACHED,
    GT_STATUS_RELAY_FAILED, /* ->why */
};

struct gt_status_relay {
    char name[GT_RELAY_NAME_MAX + 1];
    char address[GT_HOST_MAX + 9]; /* HOST:PORT or [HOST]:PORT */
    uint8_t state;                 /* enum gt_status_relay_state */
    uint32_t age_s;                /* of that knowledge */
    char why[160];
};

struct gt_device_status {
    uint64_t time;       /* the device's clock, unix time */
    uint32_t uptime_s;   /* of the agent */
    uint16_t n_sessions; /* open ones of all operators */
    uint16_t n_others;   /* of these: of operators that this one may not see */
    size_t n_listed;
    struct gt_status_session sessions[GT_STATUS_SESSIONS_MAX];
    size_t n_relays;
    struct gt_status_relay relays[GT_STATUS_RELAYS_MAX];
};

/* Writes @status into @ret. Sessions for which there is no room are left out. Returns the number of
 * bytes. */
size_t gt_device_status_encode(const struct gt_device_status *status,
                               uint8_t ret[static GT_STATUS_SIZE]);
/* Returns 0, or GT_MESSAGE_E_BAD unless the whole of @bytes is well-formed: known states, printable
 * texts, numbers of records within the limits. */
int gt_device_status_decode(struct gt_span bytes, struct gt_device_status *ret) GT_MUST_CHECK;
