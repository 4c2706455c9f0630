/* SPDX-License-Identifier: ISC */
/*
 * Conversion between text and values: one strict parser per type, for files, variables and options.
 * No parser skips blanks, accepts a sign or ignores trailing text. Unless stated otherwise they
 * return 0 or GT_TEXT_E_x.
 */
#pragma once

#include "gotthard/base/bytes.h"

#define GT_NAME_MAX    128 /* bytes of an operator's or device's name, without the NUL */
#define GT_SERVICE_MAX 128
#define GT_HOST_MAX    253

enum {
    GT_TEXT_E_SYNTAX = 1, /* malformed */
    GT_TEXT_E_RANGE,      /* well-formed, but out of range */
};

/* Decimal digits without a leading zero, except "0" itself. Limits are inclusive. */
int gt_text_number(const char *text, uint64_t min, uint64_t max, uint64_t *ret_value) GT_MUST_CHECK;
/* "250ms" "30s" "5min" "12h" "7d", or "0", as milliseconds. The unit is required. */
int gt_text_duration(const char *text, uint64_t *ret_ms) GT_MUST_CHECK;
/* "512B" "64KiB" "4MiB" "1GiB" as bytes. */
int gt_text_size(const char *text, uint64_t *ret_bytes) GT_MUST_CHECK;
/* "true" "false" "yes" "no" "on" "off" "1" "0" */
int gt_text_bool(const char *text, bool *ret_value) GT_MUST_CHECK;

/* Writes 2 * @n lowercase digits and a NUL to @ret. */
void gt_text_hex(const void *data, size_t n, char *ret);
/* Exactly 2 * @n digits of either case. */
int gt_text_unhex(const char *text, void *ret, size_t n) GT_MUST_CHECK;
/* Base64 of RFC 4648: section 4, or with @is_url section 5 without padding. @cap includes the NUL.
 */
int gt_text_base64(const void *data, size_t n, bool is_url, char *ret, size_t cap) GT_MUST_CHECK;
/* Either alphabet (not mixed), with or without padding. Unused bits must be 0. */
int gt_text_unbase64(struct gt_span text, void *ret, size_t cap, size_t *ret_n) GT_MUST_CHECK;

/* Returns true for [A-Za-z0-9][A-Za-z0-9._:@-]{0,127}, which is safe in topics, logs and file
 * names. */
bool gt_text_is_name(struct gt_span text);
/* Returns true for a name that a device may have. Names that begin with GT_TEXT_RESERVED are those
 * of enrolments at the relay. */
#define GT_TEXT_RESERVED "enroll-"
bool gt_text_is_device_name(struct gt_span text);
/* Returns true if @text has printable ASCII characters and blanks only. */
bool gt_text_is_ascii(struct gt_span text);
/* Returns true for a DNS name, an IPv4 address or an IPv6 address without brackets. */
bool gt_text_is_host(const char *text);
/* Removes the dot of a rooted name ("example.com."): no certificate has it. */
void gt_text_unroot_host(char *host);

/*
 * "host", "host:port", "[v6]", "[v6]:port" or "v6". Without a port, *ret_port is @default_port
 * (0: a port is required). @ret_host has room for GT_HOST_MAX + 1 bytes; a rooted name loses its
 * dot.
 */
int gt_text_host_port(const char *text, uint16_t default_port, char *ret_host,
                      uint16_t *ret_port) GT_MUST_CHECK;

/* Copies printable ASCII except the backslash, and writes other bytes as \xHH. Truncated text ends
 * in
 * "...". @cap includes the NUL. Returns @ret. */
const char *gt_text_escape(struct gt_span text, char *ret, size_t cap);
/* Copies @text for a message that is escaped as a whole where it is printed (base/format.h).
 * Truncated text ends in "...". @cap includes the NUL, 4 or more. Returns @ret. */
const char *gt_text_shorten(const char *text, char *ret, size_t cap);
/* Formats a duration for users: "1.5 s", "3 min", "2 h". Returns @ret. */
const char *gt_text_ago(uint64_t ms, char *ret, size_t cap);
