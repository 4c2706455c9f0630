/* SPDX-License-Identifier: ISC */
/*
 * Everything the agent takes from its configuration and the files that names: keys, certificates,
 * pins, services, relays. Made whole or not at all, and never changed after: a reload makes a new
 * one, and the old one stays when that fails.
 */
#pragma once

#include "credentials.h"
#include "gotthard/endpoint.h"
#include "hostkeys.h"
#include "policy.h"
#include "settings.h"

struct setup {
    struct gt_config *config;        /* owned */
    const struct settings *settings; /* config's */
    uint8_t of_device[GT_KEY_SIZE], previous[GT_KEY_SIZE], client_key[GT_KEY_SIZE];
    bool has_previous;
    bool is_master, is_passphrase; /* worth a warning */
    struct gt_endpoint broker;
    struct credentials credentials;
    struct gt_trust trust;
    char *pins_path; /* owned: where the pins are, or would be */
    struct policy policy;
    struct hostkeys host_keys;
};

enum { SETUP_E_BAD = 1 }; /* the reason, with its place, was written to @ret_error */

int setup_new(const struct gt_config_args *args, struct setup **ret,
              char ret_error[static GT_CONFIG_ERROR_MAX]) GT_MUST_CHECK;
struct setup *setup_free(struct setup *setup);
/* Logs what is allowed but should be thought about. */
void setup_warn(const struct setup *setup);
/* Do both speak to the broker in the same way? Under the same name and keys? */
bool setup_has_same_broker(const struct setup *a, const struct setup *b);
bool setup_has_same_identity(const struct setup *a, const struct setup *b);
