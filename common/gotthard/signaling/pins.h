/* SPDX-License-Identifier: ISC */
/*
 * Pin files: trusted keys, each with a name, a role, services and an expiry. One pin per line,
 * blank lines and # comments are skipped, words are separated by blanks or tabs:
 *
 *     NAME  SPKI-SHA256  [role=operator|admin|device] [services=a,b|*] [until=YYYY-MM-DD]
 *
 * The hash covers the key's SubjectPublicKeyInfo (RFC 7469, section 2.4), as 64 hex digits of
 * either case, with or without colons, or base64; "SHA256:" may precede it. Lines end with LF or
 * CRLF, and a byte order mark may precede the first. The role defaults to operator, services to
 * all; until= is the last valid day (UTC). A name may have several pins, for a change of keys. One
 * malformed line rejects the whole file, and a file without pins denies all.
 */
#pragma once

#include <time.h>

#include "gotthard/base/text.h"
#include "gotthard/crypto/crypto.h"

#define GT_PINS_MAX         10000
#define GT_PIN_SERVICES_MAX 64

struct gt_pin {
    char name[GT_NAME_MAX + 1];
    uint8_t fingerprint[GT_KEY_SIZE];
    enum { GT_PIN_OPERATOR, GT_PIN_ADMIN, GT_PIN_DEVICE } role;
    bool is_any_service;
    char **services; /* owned; empty if is_any_service */
    size_t n_services;
    time_t until; /* the first second after the last valid day; 0: no expiry */
};

enum { GT_PINS_E_SYNTAX = 1 };

/* Returns 0 and an array that the caller releases with gt_pins_free(), E_SYNTAX with *ret_line
 * (from 1) and a static *ret_why, or -ENOMEM. */
int gt_pins_parse(struct gt_span text, struct gt_pin **ret_pins, size_t *ret_n, size_t *ret_line,
                  const char **ret_why) GT_MUST_CHECK;
void gt_pins_free(struct gt_pin *pins, size_t n);

/* Returns true if the pin's owner may use the service. @pin NULL (policy psk): always true. */
bool gt_pin_allows_service(const struct gt_pin *pin, const char *service);
/* Returns true if the pin's owner may close sessions of others. @pin NULL (policy psk): always
 * true, because every holder of the key has the same rights. */
bool gt_pin_is_admin(const struct gt_pin *pin);
