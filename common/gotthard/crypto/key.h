/* SPDX-License-Identifier: ISC */
/*
 * The key schedule: derivation of all keys of the protocol from the configured key
 * (GOTTHARD_CRYPT_KEY and GOTTHARD_CRYPT_IV). See docs/protocol.md, section 1. Besides the master
 * key there are texts with only the keys that one party needs: gk1r for the relay, gk1d for one
 * device, and gk1o for one operator.
 */
#pragma once

#include "gotthard/base/text.h"
#include "gotthard/crypto/crypto.h"

#define GT_KEY_TEXT_MAX 512 /* bytes with the NUL of the longest gk1 string */

enum gt_role { GT_ROLE_OPERATOR = 1, GT_ROLE_DEVICE = 2 };

enum gt_key_kind { GT_KEY_MASTER, GT_KEY_RELAY, GT_KEY_DEVICE, GT_KEY_OPERATOR };

struct gt_key {
    enum gt_key_kind kind;
    bool is_passphrase;             /* derived by scrypt; a weaker kind of key */
    bool has_devices;               /* K_devs is known. Always true for KEY_MASTER */
    char name[GT_NAME_MAX + 1];     /* KEY_DEVICE, KEY_OPERATOR: of that device or operator */
    uint8_t master[GT_KEY_SIZE];    /* KEY_MASTER: PRK_M */
    uint8_t relay[GT_KEY_SIZE];     /* KEY_MASTER, KEY_RELAY: K_rel */
    uint8_t devices[GT_KEY_SIZE];   /* KEY_MASTER, and KEY_OPERATOR if has_devices: K_devs */
    uint8_t of_device[GT_KEY_SIZE]; /* KEY_DEVICE: K_dev */
    uint8_t client[GT_KEY_SIZE];    /* KEY_DEVICE, KEY_OPERATOR: K_rc of that name */
};

enum {
    GT_KEY_E_SYNTAX = 1, /* neither 64 hex digits, 43-44 base64 characters, gk1... nor passphrase */
    GT_KEY_E_ZERO,       /* all bytes zero */
    GT_KEY_E_SAME,       /* key and IV are the same */
    GT_KEY_E_IV,         /* the IV is malformed, or missing where it is required */
    GT_KEY_E_NOT_HELD,   /* this kind of key cannot derive the requested one */
    /* A damaged text, by its cause. With GT_KEY_OF_IV it is the IV's. */
    GT_KEY_E_INVISIBLE,   /* characters that a person cannot see */
    GT_KEY_E_BLANKS,      /* at an end */
    GT_KEY_E_QUOTES,      /* at an end */
    GT_KEY_E_VARIABLE,    /* the name of a variable before it */
    GT_KEY_E_COMMENT,     /* behind it */
    GT_KEY_E_DERIVED,     /* a gk1 string inside of something else */
    GT_KEY_E_HEX,         /* hex digits in another number or form */
    GT_KEY_E_BASE64,      /* base64 in another number or form */
    GT_KEY_E_TYPOGRAPHIC, /* dashes, quotes and dots of a word processor */
    GT_KEY_E_REFERENCE,   /* a path, or a template that was not filled in */
    GT_KEY_OF_IV = 64,
};

/* Returns a static text for users, which never contains a part of the key. It has no subject: the
 * caller names the setting before it. */
const char *gt_key_strerror(int condition);
/* Returns true if a condition of gt_key_parse() concerns the IV. */
bool gt_key_is_of_iv(int condition);

/*
 * Parses a key text and derives its keys (docs/protocol.md, section 1, has the forms). @iv: 32 hex
 * digits, 22-24 base64 characters (16 bytes), or another text of 8 to 64 bytes, used verbatim. NULL
 * and "" are valid for the gk1 forms only.
 * Returns 0, GT_KEY_E_x or a negative errno. The caller wipes @ret_key.
 */
int gt_key_parse(const char *text, const char *iv, struct gt_key *ret_key) GT_MUST_CHECK;
void gt_key_wipe(struct gt_key *key);

/* Format the key texts for the relay, for one device, and for one operator of every device or of
 * no device yet (device-keys.h has the keys of some devices). @ret_text has room for
 * GT_KEY_TEXT_MAX bytes. Only a master key can derive them, else GT_KEY_E_NOT_HELD. */
int gt_key_format_relay(const struct gt_key *key, char *ret_text) GT_MUST_CHECK;
int gt_key_format_device(const struct gt_key *key, const char *device,
                         char *ret_text) GT_MUST_CHECK;
int gt_key_format_operator(const struct gt_key *key, const char *operator_, bool is_of_every_device,
                           char *ret_text) GT_MUST_CHECK;

/* Derives K_dev[device]. Returns 0, GT_KEY_E_x or a negative errno, as do the functions below. */
int gt_key_device(const struct gt_key *key, const char *device,
                  uint8_t ret[static GT_KEY_SIZE]) GT_MUST_CHECK;
/* Derives an id of K_dev, which does not reveal it. */
#define GT_KEY_ID_SIZE 16
int gt_key_device_id(const uint8_t of_device[static GT_KEY_SIZE],
                     uint8_t ret[static GT_KEY_ID_SIZE]) GT_MUST_CHECK;
/* Derives the id of the K_dev that version 0.2 derived from a master key. A restarted agent
 * recognizes sessions by it that were agreed before its upgrade. Others: GT_KEY_E_NOT_HELD. */
int gt_key_device_id_of_0_2(const struct gt_key *key, const char *device,
                            uint8_t ret[static GT_KEY_ID_SIZE]) GT_MUST_CHECK;
/* Derives K_rc[role, name], the TLS PSK of one identity at the relay. */
int gt_key_client(const struct gt_key *key, enum gt_role role, const char *name,
                  uint8_t ret[static GT_KEY_SIZE]) GT_MUST_CHECK;
/* Derives an id of the relay's key K_rel, which does not reveal it. Only a master key and the
 * relay's have K_rel, else GT_KEY_E_NOT_HELD. */
int gt_key_relay_id(const struct gt_key *key, uint8_t ret[static GT_KEY_ID_SIZE]) GT_MUST_CHECK;
/* Derives an id by which an operator's files name the fleet: the relay's id, or for KEY_OPERATOR an
 * id of its K_rc. KEY_DEVICE: GT_KEY_E_NOT_HELD. */
int gt_key_fleet_id(const struct gt_key *key, uint8_t ret[static GT_KEY_ID_SIZE]) GT_MUST_CHECK;
/* Formats an identity, for example "g1:o:alice" or "g1:d:GatewayOli". @ret has room for
 * GT_IDENTITY_MAX + 1 bytes. */
#define GT_IDENTITY_MAX (5 + GT_NAME_MAX)
void gt_key_identity(enum gt_role role, const char *name, char *ret);
/* Parses an identity. Returns false if it is malformed. @ret_name has room for GT_NAME_MAX + 1
 * bytes. */
bool gt_key_parse_identity(struct gt_span identity, enum gt_role *ret_role, char *ret_name);

/* The SEAL keys of the messages between a device and its operators. */
struct gt_message_keys {
    uint8_t req[GT_KEY_SIZE], nak[GT_KEY_SIZE], presence[GT_KEY_SIZE], mix[GT_KEY_SIZE];
};
int gt_key_messages(const uint8_t of_device[static GT_KEY_SIZE],
                    struct gt_message_keys *ret) GT_MUST_CHECK;

/* The result of a key agreement. */
#define GT_RID_SIZE 16
struct gt_session_keys {
    uint8_t session[GT_KEY_SIZE]; /* K_sess */
    uint8_t rid[GT_RID_SIZE];
    uint8_t report[GT_KEY_SIZE]; /* K_rep */
};
int gt_key_ack(const uint8_t prk[static GT_KEY_SIZE], const uint8_t th1[static GT_KEY_SIZE],
               const uint8_t gy[static GT_KEY_SIZE],
               uint8_t ret_keyiv[static GT_KEYIV]) GT_MUST_CHECK;
int gt_key_session(const uint8_t prk[static GT_KEY_SIZE], const uint8_t th2[static GT_KEY_SIZE],
                   struct gt_session_keys *ret) GT_MUST_CHECK;

/* The TLS PSK of one attempt of one stream, and its PSK identity. */
#define GT_STREAM_ID_SIZE 16 /* psk_id: X(..., 16) */
struct gt_stream_psk {
    uint8_t psk[GT_KEY_SIZE];
    uint8_t id[GT_STREAM_ID_SIZE];
};
int gt_key_stream(const uint8_t session[static GT_KEY_SIZE], uint32_t stream, uint32_t attempt,
                  struct gt_stream_psk *ret) GT_MUST_CHECK;
