/* SPDX-License-Identifier: ISC */
/*
 * The fleet's access list at an operator, who checks devices by it (docs/protocol.md, section 7).
 * It is stored for each authority in $XDG_STATE_HOME/gotthard/access-ID (by default
 * ~/.local/state), and each request receives a newer one from the broker. Commands that run at once
 * never store an older list over a newer one.
 */
#pragma once

#include "gotthard/signaling/trust.h"

struct operator_access;

/* Sets policy `list` in @trust, which is kept, with the stored list if there is one. A stored list
 * that cannot be used is a warning. Returns 0 or a negative errno. */
int operator_access_new(const uint8_t authority[static GT_KEY_SIZE], uint64_t max_age_s,
                        struct gt_trust *trust, struct operator_access **ret) GT_MUST_CHECK;
/* Handles a message with a part. Another list that is whole is in force at once. */
void operator_access_receive(struct operator_access *access, struct gt_span payload);
/* Takes a whole list, if it is newer: it is in force, and stored. */
void operator_access_take(struct operator_access *access, struct gt_span text);
/* Returns true if there is no list yet, or if parts of a newer one are missing. */
bool operator_access_is_awaited(const struct operator_access *access);
/* Returns the number of parts of the list that is being received, 0 for none. */
size_t operator_access_parts(const struct operator_access *access);
bool operator_access_has_list(const struct operator_access *access);
/* Takes NULL; returns NULL. ->list of the trust becomes NULL. */
struct operator_access *operator_access_free(struct operator_access *access);
