/* SPDX-License-Identifier: ISC */
/*
 * A pin file: whose key is trusted, as what, for which services, until when. One pin a line, blank
 * lines and # comments aside, words apart by blanks or tabs:
 *
 *     NAME  SPKI-SHA256  [role=operator|admin|device] [services=a,b|*] [until=YYYY-MM-DD]
 *
 * The hash is of the key's SubjectPublicKeyInfo (RFC 7469), as 64 hex digits or base64. Without
 * role= it is an operator's; without services= it is good for all of them; until= is the last day
 * (UTC) it holds. A name may have several pins, so that keys can be changed. One bad line refuses
 * the whole file, and a file without pins denies all.
 */
#pragma once

#include <time.h>

#include "gotthard/crypto.h"
#include "gotthard/text.h"

#define GT_PINS_MAX         10000
#define GT_PIN_SERVICES_MAX 64

struct gt_pin {
    char name[GT_NAME_MAX + 1];
    uint8_t fingerprint[GT_KEY_SIZE];
    enum { GT_PIN_OPERATOR, GT_PIN_ADMIN, GT_PIN_DEVICE } role;
    bool is_any_service;
    char **services; /* owned */
    size_t n_services;
    time_t until; /* 0: for ever; otherwise the first second it no longer holds */
};

enum { GT_PINS_E_SYNTAX = 1 };

/* E_SYNTAX with *ret_line (from 1) and *ret_why (static) set. -ENOMEM. */
int gt_pins_parse(struct gt_span text, struct gt_pin **ret_pins, size_t *ret_n, size_t *ret_line,
                  const char **ret_why) GT_MUST_CHECK;
void gt_pins_free(struct gt_pin *pins, size_t n);

/* May it? @pin NULL (policy psk): any. */
bool gt_pin_allows_service(const struct gt_pin *pin, const char *service);
bool gt_pin_is_admin(const struct gt_pin *pin); /* NULL: yes, whoever holds the key is */
