/* SPDX-License-Identifier: ISC */
/*
 * The one-time token of an enrolment (docs/protocol.md, section 8). It is a session agreed in
 * advance: its holder meets the operator's command at the relay, end to end encrypted, until it
 * expires:
 *
 *     gk1t.<relay host:port>.<base64url kind 1 || expiry u32 || seed 16 || K_rc 32 || P 32>
 *
 * The seed and K_rc are shared secrets, so they prove nothing about the operator. P is the public
 * half of a key that the operator's command makes for this token: only it can seal the answer
 * (enrolment.h). Pure.
 */
#pragma once

#include "gotthard/crypto/key.h"

#define GT_TOKEN_PREFIX    "gk1t."
#define GT_TOKEN_TEXT_MAX  416 /* bytes with the NUL */
#define GT_TOKEN_SEED_SIZE 16
#define GT_TOKEN_WHY       160                 /* bytes of a reason with its NUL */
#define GT_TOKEN_LIFE_MAX  (7u * 24 * 60 * 60) /* seconds; a relay does not check it */

/* The name of a token's identity at the relay, d:enroll-<8 hex of the expiry>-<8 hex>. Since K_rc
 * follows from the name, the relay knows the expiry without any state. */
#define GT_TOKEN_NAME_SIZE (sizeof(GT_TEXT_RESERVED) + 8 + 1 + 8) /* with its NUL */

/* What the newcomer will be. A token of one kind is refused by the programs of the others. */
enum gt_token_kind { GT_TOKEN_DEVICE = 1, GT_TOKEN_OPERATOR, GT_TOKEN_RELAY };
/* Returns "device", "operator" or "relay". */
const char *gt_token_kind_text(enum gt_token_kind kind);
/* Returns true for one of the kinds. */
bool gt_token_is_kind(unsigned kind);

struct gt_token {
    enum gt_token_kind kind;
    char relay_host[GT_HOST_MAX + 1];
    uint16_t relay_port;
    uint32_t expires_at; /* unix time, judged by the relay's clock */
    uint8_t seed[GT_TOKEN_SEED_SIZE];
    uint8_t client[GT_KEY_SIZE];     /* K_rc of the token's name, in the role of a device */
    uint8_t public_key[GT_KEY_SIZE]; /* P */
};

enum {
    GT_TOKEN_E_SYNTAX = 1,
    GT_TOKEN_E_NOT_HELD, /* the key cannot derive K_rc: it is not the fleet key */
};

/*
 * Makes a token. @relay_host and @relay_port: where the newcomer reaches the relay. *ret_private is
 * p, the private half of P: it never leaves the operator's command, which wipes it. Returns 0,
 * E_SYNTAX for a host, port or time that is not possible, E_NOT_HELD, or a negative errno.
 */
int gt_token_new(const struct gt_key *key, enum gt_token_kind kind, const char *relay_host,
                 uint16_t relay_port, uint32_t expires_at, struct gt_token *ret,
                 uint8_t ret_private[static GT_KEY_SIZE]) GT_MUST_CHECK;
/* Parses a text without blanks around it. Returns 0, or E_SYNTAX with a reason for users. The
 * caller wipes @ret. */
int gt_token_parse(const char *text, struct gt_token *ret,
                   char ret_why[static GT_TOKEN_WHY]) GT_MUST_CHECK;
/* Writes the text, which is a secret. */
void gt_token_format(const struct gt_token *token, char ret[static GT_TOKEN_TEXT_MAX]);
void gt_token_wipe(struct gt_token *token);

/* The keys and the name that follow from the seed. Secret. */
struct gt_token_keys {
    uint8_t prk[GT_KEY_SIZE];      /* PRK_T */
    uint8_t session[GT_KEY_SIZE];  /* K_sess */
    uint8_t rid[GT_RID_SIZE];      /* of RENDEZVOUS */
    char name[GT_TOKEN_NAME_SIZE]; /* of the newcomer at the relay */
};
/* Returns 0 or a negative errno. The caller wipes @ret. */
int gt_token_derive(const struct gt_token *token, struct gt_token_keys *ret) GT_MUST_CHECK;
void gt_token_keys_wipe(struct gt_token_keys *keys);

/* Returns true for a name that begins as a token's. No device may have such a name. */
bool gt_token_is_reserved_name(const char *name);
/* Reads the expiry from a token's name. E_SYNTAX for any other name. */
int gt_token_parse_name(const char *name, uint32_t *ret_expires_at) GT_MUST_CHECK;
