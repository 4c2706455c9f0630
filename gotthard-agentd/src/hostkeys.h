/* SPDX-License-Identifier: ISC */
/*
 * The public ssh host keys of the device, as sshd(8) keeps them in files. Operators get them in
 * authenticated replies, so that they need not accept an unknown fingerprint. Best effort: a device
 * without sshd has none.
 */
#pragma once

#include "gotthard/signaling/message.h"

struct hostkeys {
    char *lines[GT_HOST_KEYS_MAX]; /* owned: "ssh-ed25519 AAAA..." without comment */
    struct gt_span spans[GT_HOST_KEYS_MAX];
    size_t n;
    uint64_t state; /* of the files that were read: hostkeys_renew() compares */
};

/* @patterns: paths and glob(7) patterns, separated by blanks; NULL: none. Files without a public
 * key are skipped. The shortest keys come first, because a message may not have room for all. */
void hostkeys_read(const char *patterns, struct hostkeys *ret);
/* Reads them again if names, sizes, times or inodes of the files have changed: sshd may be
 * installed or get new keys at any time. Returns true if @keys was replaced. */
bool hostkeys_renew(const char *patterns, struct hostkeys *keys);
void hostkeys_deinit(struct hostkeys *keys);
/* Copies "type base64" of the first line of @text to @ret. Returns false if @text does not begin
 * with a public key, or @cap bytes are not enough. */
bool hostkeys_parse(const char *text, char *ret, size_t cap);
