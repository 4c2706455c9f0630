/* SPDX-License-Identifier: ISC */
/*
 * The identities that the relay refuses, as a file lists them: one a line, o:NAME for an operator
 * and d:NAME for a device. Blank lines and # comments are skipped, lines end with LF or CRLF, and a
 * byte order mark may precede the first. Names are compared byte by byte, as everywhere.
 *
 * One malformed line rejects the whole file, and so does a file of blanks only: it may be half
 * written, and must not admit everyone. A comment alone is a list that refuses nothing.
 */
#pragma once

#include "gotthard/base/bytes.h"

struct refused {
    char *text;              /* owned */
    const char **identities; /* owned, sorted; they point into ->text: "o:mallory" */
    size_t n;
};

enum { REFUSED_E_SYNTAX = 1 };

/* Takes @text, allocated by malloc(3). Returns 0 and a list for refused_deinit(), E_SYNTAX with
 * *ret_line (from 1) and a static *ret_why, or -ENOMEM. */
int refused_parse(char *text, struct refused *ret, size_t *ret_line,
                  const char **ret_why) GT_MUST_CHECK;
void refused_deinit(struct refused *refused);

/* Returns true if @identity ("g1:o:mallory") is listed. */
bool refused_has(const struct refused *refused, const char *identity);
