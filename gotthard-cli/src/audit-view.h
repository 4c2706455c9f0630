/* SPDX-License-Identifier: ISC */
/*
 * Prints and verifies an audit whose bytes come from a file or from a device. They are not trusted:
 * a line that is not printable ASCII and JSON is reported and never printed. Knows no device.
 */
#pragma once

#include "gotthard/audit/audit-chain.h"
#include "print.h"

struct audit_view { /* fields are private */
    struct print *print;
    struct gt_audit_chain chain;
    const char *name; /* keeps; of the file or the device, for messages */
    char since[sizeof("2026-11-30T14:05:00.123Z")]; /* lines before this time are not printed */
    bool is_silent;                                 /* no line is printed */
    uint64_t n, n_odd;                              /* lines; those that are no JSON */
    const uint8_t *known; /* keeps; GT_KEY_SIZE: a line with this hash must be there; NULL: none */
    bool is_known_found;
    uint64_t first_odd; /* number of the first line that is broken; 0: none */
    unsigned n_warnings;
};

/* Parses the time of --since: a duration such as 2h before @now, or "2026-11-30" with or without
 * "T14:05:00Z" (UTC), or a part of it. Returns false if it is neither. */
bool audit_view_parse_since(const char *text, time_t now,
                            char ret[static sizeof("2026-11-30T14:05:00.123Z")]);

/* @since: as of audit_view_parse_since(), or "". */
void audit_view_init(struct audit_view *view, struct print *print, const char *name,
                     const char *since, bool is_silent);
/* Requires a line with the hash @known (keeps), of GT_KEY_SIZE bytes. */
void audit_view_require(struct audit_view *view, const uint8_t *known);
/* Returns 0, or a negative errno of libcrypto. */
int audit_view_feed(struct audit_view *view, struct gt_span bytes) GT_MUST_CHECK;
/* The bytes are over: prints the result. Returns 0, or 1 with @ret_failure: the chain is broken,
 * the required line is missing, or there was no line. */
int audit_view_end(struct audit_view *view, struct failure *ret_failure) GT_MUST_CHECK;
