/* SPDX-License-Identifier: ISC */
/*
 * Verifies a chain of audit lines, in the order in which they were written. Bytes are fed in pieces
 * of any size, as they come from a file or a device, and nothing is trusted: neither that they are
 * lines, nor their length.
 *
 * An intact chain proves that no line before the last one was changed, removed or inserted, to a
 * reader who knows the hash of the last one from elsewhere. Without that hash, a change is still
 * found unless its author has calculated all later hashes again. Pure.
 */
#pragma once

#include "gotthard/audit/audit-line.h"

enum gt_audit_verdict {
    GT_AUDIT_VERDICT_GOOD,
    GT_AUDIT_VERDICT_TORN,       /* good; the bytes before it were none, and it says so */
    GT_AUDIT_VERDICT_BROKEN,     /* it has not the hash and the number of the line before */
    GT_AUDIT_VERDICT_MALFORMED,  /* no line. Not a fault by itself if the next verdict is TORN */
    GT_AUDIT_VERDICT_INCOMPLETE, /* the same, at the end of the bytes: it may still be written */
};

/* @line: with its newline, but for INCOMPLETE and the pieces of one that is too long; borrowed.
 * @decoded: NULL for MALFORMED and INCOMPLETE. Returns true to continue. */
typedef bool (*gt_audit_line_fn)(void *userdata, enum gt_audit_verdict verdict, struct gt_span line,
                                 const struct gt_audit_line *decoded);

struct gt_audit_chain {        /* fields are private, but ->head */
    struct gt_audit_head head; /* of the last line */
    uint64_t n_lines;          /* that are well-formed */
    uint64_t n_broken;         /* verdicts BROKEN, and MALFORMED without TORN behind */
    uint64_t n_torn;
    uint64_t n_malformed; /* since the last well-formed line */
    gt_audit_line_fn on_line;
    void *userdata;
    size_t n;
    uint8_t line[GT_AUDIT_LINE_MAX];
};

/* @on_line: NULL: only the numbers are wanted. */
void gt_audit_chain_init(struct gt_audit_chain *chain, gt_audit_line_fn on_line, void *userdata);
enum { GT_AUDIT_CHAIN_E_STOPPED = 1 };
/* Returns 0; E_STOPPED if on_line has returned false; or a negative errno of gt_sha256(). */
int gt_audit_chain_feed(struct gt_audit_chain *chain, struct gt_span bytes) GT_MUST_CHECK;
/* The bytes are over. Returns as gt_audit_chain_feed(). */
int gt_audit_chain_end(struct gt_audit_chain *chain) GT_MUST_CHECK;
/* Returns true if bytes without a newline are at the end. */
bool gt_audit_chain_is_incomplete(const struct gt_audit_chain *chain);
/* Returns true if the last bytes are no line, so that a writer must continue with TORN. */
bool gt_audit_chain_is_torn(const struct gt_audit_chain *chain);
/* Returns true if no line was changed, as far as the chain shows. */
bool gt_audit_chain_is_intact(const struct gt_audit_chain *chain);
