/* SPDX-License-Identifier: ISC */
/*
 * Which of two keys does a ClientHello mean? A TLS server has to name one PSK for an identity
 * before OpenSSL looks at the binder, and a wrong guess ends the handshake. While a fleet changes
 * its key the relay holds two, so it looks at the binder first. Pure. See RFC 8446,
 * section 4.2.11.2.
 */
#pragma once

#include "gotthard/crypto.h"

#define GT_BINDER_HELLO_MAX 1024 /* our own clients' are about half of that */

/*
 * Was the binder of @hello (a whole ClientHello with its handshake header) made with the external
 * @psk? Only the one form that our clients send can fit: a single PSK, SHA-256, no
 * HelloRetryRequest before it. This decides nothing but which key is tried: OpenSSL checks the
 * binder all the same.
 */
bool gt_binder_fits(struct gt_span hello, const uint8_t psk[static GT_KEY_SIZE]);
