/* SPDX-License-Identifier: ISC */
/*
 * Which clients may use the relay: those that have the current key or the previous one, except for
 * refused and revoked identities. Every decision about an identity is made here: before a
 * handshake, after it, and for connections that exist when the settings change.
 */
#pragma once

#include "gotthard/crypto/key.h"
#include "gotthard/proto/control.h"
#include "gotthard/trust/access-list.h"
#include "gotthard/trust/token.h"
#include "limits/refused.h"

enum { ADMISSION_CURRENT, ADMISSION_PREVIOUS };
#define ADMISSION_N_KEYS 2

struct admission {
    size_t n_keys; /* 1; 2 during a change of keys */
    struct admission_key {
        struct gt_key key;
        uint8_t id[GT_KEY_ID_SIZE];
    } keys[ADMISSION_N_KEYS];
    struct refused refused;
    bool has_authority; /* of the access list */
    uint8_t authority[GT_KEY_SIZE];
    const struct gt_access_list *access; /* borrows; NULL: none. Only its revocations count */
};

/* Adds @key, first the current one. Returns 0 or a negative errno. */
int admission_add_key(struct admission *admission, const struct gt_key *key) GT_MUST_CHECK;
/* Moves the content of @from to @to, which is empty. */
void admission_move(struct admission *from, struct admission *to);
/* Wipes and frees the content. */
void admission_deinit(struct admission *admission);

/*
 * The identity of a token (trust/token.h) needs little at the relay, and gets no more: a token may
 * be stolen. It has the role of a device, and is refused after its expiry.
 */
#define ADMISSION_TOKEN_CONNECTIONS 4 /* a newcomer reconnects */
#define ADMISSION_TOKEN_SESSIONS    1
#define ADMISSION_TOKEN_STREAMS     4 /* numbers of streams with a connection of their own */
bool admission_is_token(enum gt_role role, const char *name);
/* Returns the milliseconds until its expiry, 0 after it and for a malformed name. */
uint64_t admission_token_left_ms(const char *name);

/*
 * Derives the TLS PSK of @identity, which is not authenticated yet, from key @which. Returns false
 * if there is no such key, if @identity is malformed, or if it is refused, revoked or expired; then
 * a client must get the same response as one with a wrong key. *ret_key_id identifies the key.
 */
bool admission_find_psk(const struct admission *admission, size_t which, struct gt_span identity,
                        uint8_t ret_psk[static GT_KEY_SIZE],
                        uint8_t ret_key_id[static GT_KEY_ID_SIZE]);
/* Returns why a client must be disconnected that authenticated as @identity ("g1:o:alice") with the
 * key @key_id: GT_CODE_OLD_KEY or GT_CODE_REFUSED. GT_CODE_NONE: it may stay. */
enum gt_code admission_check(const struct admission *admission, const char *identity,
                             const uint8_t key_id[static GT_KEY_ID_SIZE]);
