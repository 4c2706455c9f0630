/* SPDX-License-Identifier: ISC */
/* The operator's side of a request to one device: names, topics and keys from the settings. */
#pragma once

#include "failure.h"
#include "gotthard/signaling/initiator.h"
#include "identity.h"
#include "settings.h"

/*
 * Fills the names, the prefix, the signer and the trust of @initiator, whose other members the
 * caller has set, and initializes *ret with the device's keys. Borrows what @initiator points to.
 * Returns 0, or 1 with *ret_failure: a name that is also the operator's, or too long a topic.
 */
int operator_initiator_init(const struct settings *settings, const struct identity *identity,
                            const char *device, struct gt_initiator_settings *initiator,
                            struct gt_initiator *ret, struct failure *ret_failure) GT_MUST_CHECK;
