/* SPDX-License-Identifier: ISC */
/*
 * Who this operator is and whom he believes: the master key, the certificate he signs with, the
 * pins of the devices. Loaded once for a command, wiped at its end.
 */
#pragma once

#include "failure.h"
#include "gotthard/trust.h"
#include "print.h"
#include "settings.h"

struct identity {
    struct gt_key key, previous;
    bool has_previous;
    struct gt_signer *signer; /* owned; NULL: no certificate configured */
    struct gt_trust trust;
    char *pins_path; /* owned; where pins are, or would be */
};

/* Only the key: enough for keygen. 0, or 1 with @ret_failure. */
int identity_load_key(const struct settings *settings, struct print *print, struct identity *ret,
                      struct failure *ret_failure) GT_MUST_CHECK;
/* Only the certificate: NULL in ->signer when none is configured. */
int identity_load_signer(const struct settings *settings, struct identity *ret,
                         struct failure *ret_failure) GT_MUST_CHECK;
int identity_load(const struct gt_config *config, struct print *print, struct identity *ret,
                  struct failure *ret_failure) GT_MUST_CHECK;
/* Takes a zeroed one. */
void identity_deinit(struct identity *identity);

/* K_dev of @device, and the one before a rotation: *ret_has_previous. */
int identity_of_device(const struct identity *identity, const char *device,
                       uint8_t ret[static GT_KEY_SIZE], uint8_t ret_previous[static GT_KEY_SIZE],
                       struct failure *ret_failure) GT_MUST_CHECK;
