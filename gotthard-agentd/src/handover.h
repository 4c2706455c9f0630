/* SPDX-License-Identifier: ISC */
/*
 * What the listener hands to the worker of one session, over a pipe: the session's own keys, the
 * names, the relay, the services this operator may use and the limits. It is all the worker ever
 * learns: no long-term key of the fleet and nothing of MQTT. Both ends wipe the bytes after use.
 */
#pragma once

#include "gotthard/exchange.h"
#include "target.h"

#define HANDOVER_MAX \
    49152             /* of its bytes: less than a pipe holds (64 KiB), so a write never waits */
#define HANDOVER_FD 3 /* where the worker finds the pipe */

struct handover {
    struct gt_session_keys keys;
    uint8_t client_key[GT_KEY_SIZE]; /* K_rc of the device */
    char device[GT_NAME_MAX + 1], operator_[GT_NAME_MAX + 1];
    struct target relay;
    bool is_single_port;
    uint8_t log_level; /* enum gt_log_level */
    uint32_t lifetime_s, peer_timeout_ms, resume_window_ms, dial_timeout_ms, ring_size;
    uint16_t max_streams;
    struct targets services; /* owned */
};

enum { HANDOVER_E_BAD = 1 };

/* E_BAD when it would not fit into HANDOVER_MAX. */
int handover_encode(const struct handover *handover, uint8_t ret[static HANDOVER_MAX],
                    size_t *ret_n) GT_MUST_CHECK;
/* E_BAD for anything but exactly one. -ENOMEM. */
int handover_decode(struct gt_span bytes, struct handover *ret) GT_MUST_CHECK;
/* Wipes the keys and frees. */
void handover_deinit(struct handover *handover);

/* To the non-blocking write end of a fresh pipe. -EMSGSIZE, or write(2)'s. */
int handover_send(const struct handover *handover, int fd) GT_MUST_CHECK;
/* Reads until the end of the pipe. E_BAD: the listener changed its mind, or is gone. */
int handover_receive(int fd, struct handover *ret) GT_MUST_CHECK;
