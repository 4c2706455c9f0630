/* SPDX-License-Identifier: ISC */
/*
 * What a session was granted by, as it is kept in its session file: enough to judge it again after
 * a restart (recheck.h), and to end it at its relay. It has no key: the key id does not reveal the
 * key that the session was agreed under.
 */
#pragma once

#include "gotthard/crypto/key.h"
#include "permit.h"
#include "worker-parameters.h"

struct session_info {
    uint8_t grant, applied; /* numbers of the grant: the listener's, and the one that the worker has
                               applied; 0: the first */
    pid_t pid;
    char device[GT_NAME_MAX + 1], operator_[GT_NAME_MAX + 1];
    uint8_t rid[GT_RID_SIZE];
    uint8_t key_id[GT_KEY_ID_SIZE];   /* of the device's key that opened the request */
    bool is_signed;                   /* by the key of ->fingerprint, also under policy psk */
    uint8_t fingerprint[GT_KEY_SIZE]; /* of the operator's certificate, as in a pin */
    uint64_t ends_at_ms;              /* CLOCK_BOOTTIME */
    char purpose[GT_PURPOSE_MAX + 1]; /* in the operator's words; "": none */
    struct targets services;          /* owned: granted to the operator */
    char permit[PERMIT_TEXT_MAX + 1]; /* likewise; as the setting had it; "": none */
    struct target relay;
};

enum { SESSION_INFO_E_BAD = 1 };

#define SESSION_INFO_APPLIED_AT 5 /* where the encoding of a changed grant has ->applied */

void session_info_deinit(struct session_info *info);
/* E_BAD: longer than WORKER_PARAMETERS_MAX. Or a negative errno of gt_sha256(). */
int session_info_encode(const struct session_info *info, uint8_t ret[static WORKER_PARAMETERS_MAX],
                        size_t *ret_n) GT_MUST_CHECK;
/* E_BAD: anything but exactly one encoded session, an ill-formed name, or a pid below 2. -ENOMEM,
 * or a negative errno of gt_sha256(). */
int session_info_decode(struct gt_span bytes, struct session_info *ret) GT_MUST_CHECK;
