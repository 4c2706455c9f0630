/* SPDX-License-Identifier: ISC */
/*
 * Which holder serves a command: the path of its control socket covers the device and everything
 * that decides about a session, except secrets and the bytes of files, whose hash the holder
 * compares itself. The names of sockets are public (/proc/net/unix), so no hash of a secret is in
 * one.
 */
#pragma once

#include "gotthard/crypto/crypto.h"
#include "runtime-folder.h"
#include "settings.h"

#define HOLDER_LOCK           "lock"
#define HOLDER_SUFFIX_SHARED  ".session"
#define HOLDER_SUFFIX_CONNECT ".connect"

/* Writes the path of the socket in @folder. @purpose: of the request, or NULL; a session has one.
 * Returns 0 or a negative errno. */
int holder_path(const struct settings *settings, const char *device, const char *purpose,
                const char *folder, char ret[static LOCAL_SOCKET_PATH_MAX + 1]) GT_MUST_CHECK;
/* Hashes the secrets, and the files that decide about trust (identity_digest_files): a session must
 * not outlive the removal of a pin. Returns 0 or a negative errno. */
int holder_check(const struct gt_config *config, uint8_t ret[static GT_KEY_SIZE]) GT_MUST_CHECK;
