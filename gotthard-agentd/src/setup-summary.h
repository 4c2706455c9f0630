/* SPDX-License-Identifier: ISC */
/*
 * What a setup offers to whom, as text: the services with their targets and the effective trust
 * policy, for `--check-config` and for the log.
 */
#pragma once

#include "setup.h"

#define SETUP_SERVICES_TEXT 512 /* bytes of setup_services_text() */

/* Writes "ssh=127.0.0.1:22 web=10.0.0.1:80", or "none". A text that is too long ends with "...". */
void setup_services_text(const struct setup *setup, char *ret, size_t cap);
/* Returns the setting agent.permit, or "none"; owned by @setup. */
const char *setup_permit_text(const struct setup *setup);
/* Returns "pin" or "psk", a static string. */
const char *setup_policy_name(const struct setup *setup);
/* Writes all settings in the syntax of a file, and below them, as comments, the effective policy
 * and services. */
void setup_show(const struct setup *setup, int fd);
