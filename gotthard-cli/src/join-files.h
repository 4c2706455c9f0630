/* SPDX-License-Identifier: ISC */
/*
 * The files of an operator who joins a fleet, in the folder of the user's own configuration: a
 * folder of keys and certificates, and cli.conf.d/50-enrolled.conf, which names them. Files of the
 * user's own stay as they are.
 */
#pragma once

#include "failure.h"
#include "gotthard/enrolment/place.h"
#include "gotthard/trust/bundle.h"

/* What joining sets: a user whose own files have one of them is an operator already. */
extern const char *const join_settings[];
extern const size_t n_join_settings;

/* Installs a bundle of an operator that gt_bundle_check() has accepted, and the private key (PEM).
 * The new configuration is loaded as the next command does it; if that fails, the files of
 * before are restored. Returns 0, or 1 with @ret_failure. */
int join_files_install(const struct gt_place *place, const struct gt_bundle *bundle,
                       struct gt_span private_key, struct failure *ret_failure) GT_MUST_CHECK;
