/* SPDX-License-Identifier: ISC */
/*
 * `gotthard-agentd enroll TOKEN` and `gotthard-agentd --install FILE`: this machine becomes a
 * device of a fleet (docs/protocol.md, section 8). Nothing of the running agent is used, and it may
 * be running: its configuration is replaced as a whole, and only with --force.
 */
#pragma once

#include "gotthard/enrolment/enrolment-options.h"
#include "gotthard/enrolment/place.h"
#include "gotthard/trust/bundle.h"

/* Return the exit status. Facts go to standard output, errors to standard error. */
int enrolment_run(const struct gt_enrolment_options *options);
int enrolment_install_file(const struct gt_enrolment_options *options);

enum { ENROLMENT_E_REFUSED = GT_PLACE_E_REFUSED }; /* a reason was written to @ret_why */

/*
 * Installs a bundle of a device that gt_bundle_check() has accepted. @private_key: of the
 * certificate, PEM. The new configuration is loaded as the agent does it, with everything that it
 * names; if that fails, the identity before is restored. E_REFUSED, or a negative errno.
 */
int enrolment_install(const struct gt_place *place, const struct gt_bundle *bundle,
                      struct gt_span private_key, char ret_why[static GT_PLACE_WHY]) GT_MUST_CHECK;
