/* SPDX-License-Identifier: ISC */
/*
 * One trusted key with a name, a role, services, devices and an expiry: a line of a pin file
 * (pins.h), or an entry of the access list (access-list.h), which have more or fewer of these
 * words:
 *
 *     NAME  SPKI-SHA256  [role=operator|admin|device] [services=a,b|*] [devices=a,b*|*]
 *                        [until=YYYY-MM-DD]
 *
 * The hash covers the key's SubjectPublicKeyInfo (RFC 7469, section 2.4), as 64 hex digits of
 * either case, with or without colons, or base64; "SHA256:" may precede it. The role defaults to
 * operator, services and devices to all; until= is the last valid day (UTC). In devices= a * stands
 * for any characters, also none. Pure.
 */
#pragma once

#include <time.h>

#include "gotthard/base/text.h"
#include "gotthard/crypto/crypto.h"

#define GT_PIN_SERVICES_MAX 64
#define GT_PIN_DEVICES_MAX  64

struct gt_pin {
    char name[GT_NAME_MAX + 1];
    uint8_t fingerprint[GT_KEY_SIZE];
    enum { GT_PIN_OPERATOR, GT_PIN_ADMIN, GT_PIN_DEVICE } role;
    bool is_any_service, is_any_device;
    char **services; /* owned; empty if is_any_service */
    size_t n_services;
    char **devices; /* owned patterns; empty if is_any_device */
    size_t n_devices;
    time_t until; /* the first second after the last valid day; 0: no expiry */
};

/* The words that a line may have after the hash, and what to answer to any other. */
struct gt_pin_form {
    bool has_role, has_device_role, has_services, has_devices;
    bool is_device;          /* the name is that of a device */
    const char *unknown_why; /* static */
};

enum { GT_PIN_E_SYNTAX = 1 };

/* Parses a line without its end. Returns 0 and a pin that the caller releases, E_SYNTAX with a
 * static *ret_why, or -ENOMEM. */
int gt_pin_parse(struct gt_span line, const struct gt_pin_form *form, struct gt_pin *ret,
                 const char **ret_why) GT_MUST_CHECK;
void gt_pin_deinit(struct gt_pin *pin);

/* Returns true if the pin's owner may use the service. @pin NULL (policy psk): always true. */
bool gt_pin_allows_service(const struct gt_pin *pin, const char *service);
/* Returns true if the pin's owner may reach the device. */
bool gt_pin_allows_device(const struct gt_pin *pin, const char *device);
/* Returns true if the pin's owner may close sessions of others. @pin NULL (policy psk): always
 * true, because every holder of the key has the same rights. */
bool gt_pin_is_admin(const struct gt_pin *pin);
/* Returns true unless the pin has expired at @now. */
bool gt_pin_is_valid(const struct gt_pin *pin, time_t now);
/* Returns true if @name matches @pattern, in which a * stands for any characters. */
bool gt_pin_matches(const char *pattern, const char *name);
