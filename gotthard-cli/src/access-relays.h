/* SPDX-License-Identifier: ISC */
/*
 * Sends a signed access list to each relay of the configuration, all at once, and reports the
 * effect: a relay ends the sessions of revoked names at once, also those of devices that the broker
 * does not reach.
 */
#pragma once

#include "authority.h"
#include "commands.h"
#include "identity.h"

struct access_relays;

/* Returns true if any relay is configured. */
bool access_relays_are_configured(const struct settings *settings);
/* Begins to send the list of @authority by the key of @identity; keeps both and @context. The loop
 * does the work. Returns 0, or 1 with @ret_failure. */
int access_relays_start(struct context *context, const struct authority *authority,
                        const struct identity *identity, struct access_relays **ret,
                        struct failure *ret_failure) GT_MUST_CHECK;
/* Runs the loop until each relay has answered, or for some seconds. Returns false if a signal ended
 * that. */
bool access_relays_wait(struct access_relays *relays) GT_MUST_CHECK;
/* Prints the result of each relay. Returns the number of those that should have the list, and do
 * not. */
size_t access_relays_report(const struct access_relays *relays);
/* Takes NULL; returns NULL. */
struct access_relays *access_relays_free(struct access_relays *relays);
