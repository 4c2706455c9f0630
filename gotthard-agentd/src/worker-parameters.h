/* SPDX-License-Identifier: ISC */
/*
 * The parameters of one session's worker, sent by the listener over a pipe: the session's own keys,
 * the names, the relay and the proxy to it, the services and targets of this operator, and the
 * limits. The worker learns nothing else: no long-term key of the fleet, and nothing about MQTT.
 * Both ends wipe the bytes after use.
 */
#pragma once

#include "gotthard/base/proxy.h"
#include "gotthard/signaling/exchange.h"
#include "permit.h"
#include "target.h"

/* Bytes of encoded parameters, at most. A pipe holds 64 KiB (pipe(7)), so that a write of this size
 * never blocks. */
#define WORKER_PARAMETERS_MAX 49152
#define WORKER_PARAMETERS_FD  3 /* the worker's end of the pipe */

struct worker_parameters {
    struct gt_session_keys keys;
    uint8_t client_key[GT_KEY_SIZE]; /* K_rc of the device */
    char device[GT_NAME_MAX + 1], operator_[GT_NAME_MAX + 1];
    struct target relay;
    struct gt_proxy proxy; /* on the way to it */
    bool is_single_port;
    uint8_t log_level; /* enum gt_log_level */
    uint32_t lifetime_s, peer_timeout_ms, resume_window_ms, dial_timeout_ms, vanished_ms, linger_ms;
    uint32_t ring_size; /* bytes */
    uint16_t max_streams;
    uint16_t suite; /* enum gt_record_suite: the preferred one, measured once for all workers */
    struct targets services;          /* owned */
    char permit[PERMIT_TEXT_MAX + 1]; /* other targets, as the setting has them; "": none */
};

enum { WORKER_PARAMETERS_E_BAD = 1 };

/* E_BAD: longer than WORKER_PARAMETERS_MAX. */
int worker_parameters_encode(const struct worker_parameters *worker_parameters,
                             uint8_t ret[static WORKER_PARAMETERS_MAX],
                             size_t *ret_n) GT_MUST_CHECK;
/* E_BAD: anything but exactly one encoded struct. -ENOMEM. */
int worker_parameters_decode(struct gt_span bytes, struct worker_parameters *ret) GT_MUST_CHECK;
/* Wipes the keys and frees the services. */
void worker_parameters_deinit(struct worker_parameters *worker_parameters);

/* Writes to @fd, the non-blocking write end of a new pipe. -EMSGSIZE: too long; or the errno of
 * write(2). */
int worker_parameters_send(const struct worker_parameters *worker_parameters, int fd) GT_MUST_CHECK;
/* Reads @fd to the end of the pipe. E_BAD: the listener closed it without sending parameters. Or
 * the negative errno of read(2), -ENOMEM. */
int worker_parameters_receive(int fd, struct worker_parameters *ret) GT_MUST_CHECK;
