/* SPDX-License-Identifier: ISC */
/*
 * The steps of setup_new that decide what operators may do. Each fills its part of the setup. Each
 * returns 0, SETUP_E_BAD or SETUP_E_FILE with a reason in @ret_error (GT_CONFIG_ERROR_MAX), or a
 * negative errno.
 */
#pragma once

#include "setup.h"

/* Services, relays, limits. */
int setup_load_policy(struct setup *setup, char *ret_error) GT_MUST_CHECK;
/* The trust policy, and the pins if it needs them. */
int setup_load_trust(struct setup *setup, char *ret_error) GT_MUST_CHECK;

/* Returns true if ssh is offered only because nothing is configured. */
bool setup_has_default_service(const struct setup *setup);
/* Returns 0, or an error if @old have a certificate and @new have none. For one folder. */
int setup_check_pair(const struct setup *setup, const struct credentials *old,
                     const struct credentials *new, char *ret_error) GT_MUST_CHECK;

/* Writes "<place of the setting>: <setting>: <message>" to @ret_error. Returns gt_config_fault().
 */
int setup_fail(const struct setup *setup, char *ret_error, const char *path, const char *fmt, ...)
    GT_PRINTF(4, 5);
/* The same: trust.authority was removed, and nothing says that its list is not required now. */
int setup_fail_without_authority(const struct setup *setup, char *ret_error);
