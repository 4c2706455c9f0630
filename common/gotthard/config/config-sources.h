/* SPDX-License-Identifier: ISC */
/* Where the values of a configuration came from, in one line. */
#pragma once

#include "gotthard/config/config.h"

/* Writes the files that gave a value, each once, and the numbers of variables and options that did:
 * "/etc/gotthard/cli.conf, 2 variables". "defaults only" if nothing was set. Truncated to @cap.
 * Returns @ret. */
const char *gt_config_sources(const struct gt_config *config, char *ret, size_t cap);
