/* SPDX-License-Identifier: ISC */
/*
 * The key schedule: from what an operator configures (GOTTHARD_CRYPT_KEY and _IV) to every key
 * that is used on a wire. See docs/protocol.md, section 1. Three kinds of key text exist, so that
 * nobody has to hold more than he needs: the master for operators, gk1r for the relay, gk1d for
 * one device.
 */
#pragma once

#include "gotthard/crypto.h"
#include "gotthard/text.h"

#define GT_KEY_TEXT_MAX 512 /* with the NUL: the longest gk1 string */

enum gt_role { GT_ROLE_OPERATOR = 1, GT_ROLE_DEVICE = 2 };

enum gt_key_kind { GT_KEY_MASTER, GT_KEY_RELAY, GT_KEY_DEVICE };

struct gt_key {
    enum gt_key_kind kind;
    bool is_passphrase;             /* derived by scrypt: worth a warning */
    char device[GT_NAME_MAX + 1];   /* KEY_DEVICE: whose */
    uint8_t master[GT_KEY_SIZE];    /* KEY_MASTER: PRK_M */
    uint8_t relay[GT_KEY_SIZE];     /* KEY_MASTER, KEY_RELAY: K_rel */
    uint8_t of_device[GT_KEY_SIZE]; /* KEY_DEVICE: K_dev */
    uint8_t client[GT_KEY_SIZE];    /* KEY_DEVICE: K_rc of the device */
};

enum {
    GT_KEY_E_SYNTAX =
        1,         /* neither 64 hex digits, 43-44 base64 characters, gk1..., nor 20 characters */
    GT_KEY_E_ZERO, /* all bytes zero */
    GT_KEY_E_SAME, /* key and IV are the same */
    GT_KEY_E_IV,   /* the IV is not of an accepted form, or missing where it is needed */
    GT_KEY_E_NOT_HELD, /* this kind of key cannot derive that */
};

/* One sentence for people, without any part of the key. */
const char *gt_key_strerror(int condition);

/*
 * @iv: 32 hex digits, 22-24 base64 characters (16 bytes), or other text of 8 to 64 bytes taken as
 * it is; NULL or "" is good with the gk1 forms only.
 */
int gt_key_parse(const char *text, const char *iv, struct gt_key *ret_key) GT_MUST_CHECK;
void gt_key_wipe(struct gt_key *key);

/* The strings an operator hands out; room for GT_KEY_TEXT_MAX. E_NOT_HELD but from a master. */
int gt_key_format_relay(const struct gt_key *key, char *ret_text) GT_MUST_CHECK;
int gt_key_format_device(const struct gt_key *key, const char *device,
                         char *ret_text) GT_MUST_CHECK;

/* K_dev[device]. */
int gt_key_device(const struct gt_key *key, const char *device,
                  uint8_t ret[static GT_KEY_SIZE]) GT_MUST_CHECK;
/* K_rc[role, name], the TLS PSK of one identity at the relay. */
int gt_key_client(const struct gt_key *key, enum gt_role role, const char *name,
                  uint8_t ret[static GT_KEY_SIZE]) GT_MUST_CHECK;
/* "g1:o:alice", "g1:d:GatewayOli": room for GT_IDENTITY_MAX + 1. */
#define GT_IDENTITY_MAX (5 + GT_NAME_MAX)
void gt_key_identity(enum gt_role role, const char *name, char *ret);
/* The reverse, checked: false for anything ill-formed. @ret_name has room for GT_NAME_MAX + 1. */
bool gt_key_parse_identity(struct gt_span identity, enum gt_role *ret_role, char *ret_name);

/* What a device and its operators seal their messages with. */
struct gt_message_keys {
    uint8_t req[GT_KEY_SIZE], nak[GT_KEY_SIZE], presence[GT_KEY_SIZE], mix[GT_KEY_SIZE];
};
int gt_key_messages(const uint8_t of_device[static GT_KEY_SIZE],
                    struct gt_message_keys *ret) GT_MUST_CHECK;

/* What an exchange agrees on. */
#define GT_RID_SIZE 16
struct gt_session_keys {
    uint8_t session[GT_KEY_SIZE]; /* K_sess */
    uint8_t rid[GT_RID_SIZE];
};
int gt_key_ack(const uint8_t prk[static GT_KEY_SIZE], const uint8_t th1[static GT_KEY_SIZE],
               const uint8_t gy[static GT_KEY_SIZE],
               uint8_t ret_keyiv[static GT_KEYIV]) GT_MUST_CHECK;
int gt_key_session(const uint8_t prk[static GT_KEY_SIZE], const uint8_t th2[static GT_KEY_SIZE],
                   struct gt_session_keys *ret) GT_MUST_CHECK;

/* The TLS PSK of one attempt of one stream, and the identity it goes by. */
#define GT_STREAM_ID_SIZE 16 /* psk_id: X(..., 16) */
struct gt_stream_psk {
    uint8_t psk[GT_KEY_SIZE];
    uint8_t id[GT_STREAM_ID_SIZE];
};
int gt_key_stream(const uint8_t session[static GT_KEY_SIZE], uint32_t stream, uint32_t attempt,
                  struct gt_stream_psk *ret) GT_MUST_CHECK;
