/* SPDX-License-Identifier: ISC */
/*
 * The part of the output of `connect` that is about its local ends: where it listens, for which
 * users, and how to use that.
 */
#pragma once

#include "connect-output.h"

/* Warns if programs of other users, or of other machines, can use a local end. */
void connect_local_sharing(struct connect_output *output, const struct forwards *forwards);
/* Where it listens, before the tunnel is up. */
void connect_local_listening(struct connect_output *output, const struct forwards *forwards);
/* For people, when the tunnel is up: which local end leads to which service, and how to log in. */
void connect_local_usage(struct connect_output *output, const struct forwards *forwards);
/* For programs: --print-port and the event "up". @ms: since the start. */
void connect_local_ports(struct connect_output *output, const struct forwards *forwards,
                         uint64_t ms);
