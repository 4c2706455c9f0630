/* SPDX-License-Identifier: ISC */
/* The STATE message of a device, opened with the keys of an operator. */
#pragma once

#include "gotthard/signaling/message.h"
#include "identity.h"

/* Decrypts and decodes a STATE of @device with its key, or with the one before a rotation. @buffer
 * (GT_MESSAGE_MAX) holds the spans of @ret. Returns true if it opened and is well-formed. */
bool device_state_decode(const struct identity *identity, const char *device, const char *topic,
                         struct gt_span payload, struct gt_state *ret, uint8_t *buffer);
