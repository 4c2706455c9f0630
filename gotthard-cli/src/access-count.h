/* SPDX-License-Identifier: ISC */
/*
 * Counts the devices that have an access list: those of the list, and those with a state at the
 * broker. A state is only a hint, since every operator can invent one. A device counts if it
 * answers a query by an ACK with the serial, which its own key has signed.
 */
#pragma once

#include "authority.h"
#include "commands.h"
#include "identity.h"

/* Runs the loop until all devices that are online have it, or for a time that grows with their
 * number. Prints the result. @identity: with its keys and signer; its trust is replaced. Returns
 * the exit status. */
int access_count(struct context *context, const struct authority *authority,
                 struct identity *identity);
