/* SPDX-License-Identifier: ISC */
/*
 * REPORT: how the device's way to the relay goes, for the operator who waits for it. It follows the
 * ACK and ends when both sides are at the relay. Only the two ends of one session have its key. See
 * docs/protocol.md, section 2.
 */
#pragma once

#include "gotthard/signaling/message.h"

#define GT_REPORT_RELAY_MAX 260 /* bytes of "HOST:PORT" */
#define GT_REPORT_WHY_MAX   160

enum gt_report_kind {
    GT_REPORT_AT_RELAY = 0,    /* registered: the device waits for the operator */
    GT_REPORT_UNREACHABLE = 1, /* no address, no connection, or it broke */
    GT_REPORT_REJECTED = 2,    /* TLS failed, probably because of a wrong key */
    GT_REPORT_ERROR = 3,       /* an error of the relay, see ->code: full, another version, ... */
    GT_REPORT_ENDED = 4,       /* the session was closed on the device, or failed there */
};

struct gt_report {
    uint16_t seq;  /* greater than in the report before, from 1 on */
    uint8_t kind;  /* enum gt_report_kind; a later version may have more */
    bool is_last;  /* the device's side of the session has ended */
    uint16_t code; /* ERROR: the relay's code (proto/control.h); otherwise 0 */
    char relay[GT_REPORT_RELAY_MAX + 1];
    char why[GT_REPORT_WHY_MAX + 1]; /* for people, printable; "" for AT_RELAY */
};

/* The inner form. The decoder returns 0, or GT_MESSAGE_E_BAD unless the whole of @inner is
 * well-formed and its texts are printable. */
void gt_report_encode(const struct gt_report *report, struct gt_writer *w);
int gt_report_decode(struct gt_span inner, struct gt_report *ret) GT_MUST_CHECK;

/* Writes the message into @ret (GT_MESSAGE_MAX). @key: K_rep. Characters of the texts that are not
 * printable become '?'. Returns 0 or a negative errno. */
int gt_report_seal(const uint8_t key[static GT_KEY_SIZE], const char *topic,
                   const struct gt_report *report, uint8_t *ret, size_t *ret_n) GT_MUST_CHECK;
/* Returns 0, GT_MESSAGE_E_BAD if @payload is not a REPORT for this key and topic, or a negative
 * errno. The caller compares ->seq. */
int gt_report_open(const uint8_t key[static GT_KEY_SIZE], const char *topic, struct gt_span payload,
                   struct gt_report *ret) GT_MUST_CHECK;
