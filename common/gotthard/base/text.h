/* SPDX-License-Identifier: ISC */
/*
 * Text to values and back: one strict parser of each kind for files, variables and flags alike.
 * Nothing here skips blanks, takes a sign, or stops early: the whole string, or a condition.
 */
#pragma once

#include "gotthard/bytes.h"

#define GT_NAME_MAX    128 /* bytes of an operator's or device's name, without the NUL */
#define GT_SERVICE_MAX 128
#define GT_HOST_MAX    253

enum {
    GT_TEXT_E_SYNTAX = 1, /* not of this form */
    GT_TEXT_E_RANGE,      /* of this form, outside the limits */
};

/* Decimal digits only, no leading zero but "0" itself. */
int gt_text_number(const char *text, uint64_t min, uint64_t max, uint64_t *ret_value) GT_MUST_CHECK;
/* "250ms" "30s" "5min" "12h" "7d", or "0": milliseconds. A number without a unit is E_SYNTAX. */
int gt_text_duration(const char *text, uint64_t *ret_ms) GT_MUST_CHECK;
/* "512B" "64KiB" "4MiB" "1GiB": bytes. */
int gt_text_size(const char *text, uint64_t *ret_bytes) GT_MUST_CHECK;
/* "true" "false" "yes" "no" "on" "off" "1" "0" */
int gt_text_bool(const char *text, bool *ret_value) GT_MUST_CHECK;

/* Writes 2n digits and a NUL. */
void gt_text_hex(const void *data, size_t n, char *ret);
/* Exactly 2n digits of either case. */
int gt_text_unhex(const char *text, void *ret, size_t n) GT_MUST_CHECK;
/* RFC 4648 base64 (section 4) or its URL alphabet (section 5, without padding). @cap counts the
 * NUL. */
int gt_text_base64(const void *data, size_t n, bool is_url, char *ret, size_t cap) GT_MUST_CHECK;
/* Either alphabet (not mixed), with or without padding; spare bits must be 0. */
int gt_text_unbase64(struct gt_span text, void *ret, size_t cap, size_t *ret_n) GT_MUST_CHECK;

/* [A-Za-z0-9][A-Za-z0-9._:@-]{0,127}: safe in a topic, a log line and a file name. */
bool gt_text_is_name(struct gt_span text);
bool gt_text_is_host(
    const char *text); /* a DNS name, IPv4 or bare IPv6 address; no blanks, no URL */

/*
 * "host", "host:port", "[v6]", "[v6]:port", bare "v6". Without a port *ret_port is @default_port
 * (0: a port is required). @ret_host has room for GT_HOST_MAX + 1.
 */
int gt_text_host_port(const char *text, uint16_t default_port, char *ret_host,
                      uint16_t *ret_port) GT_MUST_CHECK;

/* Printable ASCII but the backslash as it is, all else as \xHH; cut with "..." at @cap. Returns
 * @ret. */
const char *gt_text_escape(struct gt_span text, char *ret, size_t cap);
/* "1.5 s", "3 min", "2 h" for people. Returns @ret. */
const char *gt_text_ago(uint64_t ms, char *ret, size_t cap);
