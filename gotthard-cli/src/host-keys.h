/* SPDX-License-Identifier: ISC */
/*
 * The ssh host keys in a device's authenticated answer, as lines of known_hosts(5) need them
 * (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT"): "ssh-ed25519 AAAA...". Pure text.
 */
#pragma once

#include "gotthard/signaling/message.h"

/* Writes a line for each well-formed key, without its comment. Keys that do not fit are left out.
 */
void host_keys_format(const struct gt_extensions *extensions, char *ret, size_t cap);
