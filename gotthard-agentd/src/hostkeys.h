/* SPDX-License-Identifier: ISC */
/*
 * The device's ssh host keys, public halves, as sshd leaves them in files: they go to operators in
 * authenticated answers, so that nobody has to say yes to a fingerprint blindly. Best effort: a
 * device without sshd has none.
 */
#pragma once

#include "gotthard/message.h"

struct hostkeys {
    char *lines[GT_HOST_KEYS_MAX]; /* owned: "ssh-ed25519 AAAA..." without comment */
    struct gt_span spans[GT_HOST_KEYS_MAX];
    size_t n;
};

/* @patterns: paths and glob(7) patterns, separated by blanks. Files that are no public key are left
 * out. The shortest keys come first: they are the ones that must fit. */
void hostkeys_read(const char *patterns, struct hostkeys *ret);
void hostkeys_deinit(struct hostkeys *keys);
/* "type base64" of the first line of @text into @ret; false when it is no such thing. */
bool hostkeys_parse(const char *text, char *ret, size_t cap);
