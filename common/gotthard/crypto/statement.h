/* SPDX-License-Identifier: ISC */
/*
 * What every signature of the protocol signs: 64 x 0x20 || context || 0 || SHA256(signed data), the
 * form of RFC 8446, section 4.4.3. The context keeps a signature from being valid for anything
 * else. Pure.
 */
#pragma once

#include "gotthard/crypto/crypto.h"

#define GT_STATEMENT_CONTEXT_MAX 32 /* bytes of a context without its NUL */

struct gt_statement {
    uint8_t bytes[64 + GT_STATEMENT_CONTEXT_MAX + 1 + GT_KEY_SIZE];
    size_t n;
};

/* @context: a constant of at most GT_STATEMENT_CONTEXT_MAX bytes. The signed data is the
 * concatenation of @parts. Returns 0 or a negative errno. */
int gt_statement_make(const char *context, const struct gt_span *parts, size_t n_parts,
                      struct gt_statement *ret) GT_MUST_CHECK;
static inline struct gt_span gt_statement_span(const struct gt_statement *statement)
{
    return gt_span(statement->bytes, statement->n);
}
