/* SPDX-License-Identifier: ISC */
/*
 * One change of the access list by the authority: load, change, compare with the list at the
 * broker, sign with the next serial, store, then publish at the broker and send to the relays.
 * Whatever fails after the list was stored can be repeated by `access publish`.
 */
#pragma once

#include "access-broker.h"

struct access_change {
    struct context *context;
    struct authority authority;
    struct identity identity;
    struct access_broker broker;
    bool has_key;            /* of ->identity, for the relays */
    size_t n_relays_without; /* relays that should have the list, and do not */
    char *body;              /* owned; access-text.h, of the present list; empty if there is none */
};

/* Loads key, list and signer. Returns 0, or 1 with @ret_failure; the caller calls
 * access_change_end() in any case. */
int access_change_begin(struct context *context, struct access_change *ret,
                        struct failure *ret_failure) GT_MUST_CHECK;
/* Loads the key of the operator, which the relays need. Returns 0, or 1 with @ret_failure. */
int access_change_load_key(struct access_change *change, struct failure *ret_failure) GT_MUST_CHECK;
/* Signs, stores and publishes @body, or publishes the present list if it is NULL. Prints the
 * results. Returns as the functions of access-broker.h. */
int access_change_apply(struct access_change *change, const char *body,
                        struct failure *ret_failure) GT_MUST_CHECK;
/* Revokes a name: removes its entries, adds the line `revoked` and applies that. A name that is
 * revoked already is published again. Returns as access_change_apply(). */
int access_change_revoke(struct access_change *change, bool is_operator, const char *name,
                         struct failure *ret_failure) GT_MUST_CHECK;
/* Returns the exit status @code, or that of relays without the list if it is 0. */
int access_change_exit(const struct access_change *change, int code);
void access_change_end(struct access_change *change);
