/* SPDX-License-Identifier: ISC */
/*
 * Reads the audit of a device through a tunnel: a session for the built-in service "@audit", and
 * its only stream, into a file without a name. Prints nothing but what the session warns of.
 */
#pragma once

#include "commands.h"

/* Returns 0 with a descriptor at the beginning of the file; 1 with @ret_failure; or
 * AUDIT_DOWNLOAD_E_INTERRUPTED. */
enum { AUDIT_DOWNLOAD_E_INTERRUPTED = 2 };
int audit_download(struct context *context, const char *device, int *ret_fd,
                   struct failure *ret_failure) GT_MUST_CHECK;
