/* SPDX-License-Identifier: ISC */
/*
 * Authorization: signatures over messages, and the receiver's own policy about them. Under `psk`
 * the seal alone authorizes. Under `pin` a signature by a pinned key is required (pins.h), under
 * `list` one by a key of the access list (access-list.h). The policy is never negotiated. Pure
 * except for libcrypto: the caller reads the files.
 */
#pragma once

#include "gotthard/signaling/message.h"
#include "gotthard/trust/access-list.h"
#include "gotthard/trust/pins.h"

enum {
    GT_TRUST_E_SYNTAX = 1, /* not a key, certificate or pin file */
    GT_TRUST_E_MISMATCH,   /* the key does not belong to the certificate */
    GT_TRUST_E_UNSUITED,   /* an algorithm or size that is not accepted */
    GT_TRUST_E_DENIED,     /* signature missing or wrong, or its key not trusted */
};
/* Returns a static text. */
const char *gt_trust_strerror(int condition);

/* The key and certificate that a side signs with: those of its MQTT client. */
struct gt_signer;
/* PEM texts (crypto/pem.h); the first certificate is used. Returns 0, E_SYNTAX, E_MISMATCH or
 * E_UNSUITED with a reason for people in @ret_why, or a negative errno. */
#define GT_TRUST_WHY 192 /* bytes with the NUL */
int gt_signer_new(struct gt_span certificate_pem, struct gt_span key_pem, struct gt_signer **ret,
                  char ret_why[static GT_TRUST_WHY]) GT_MUST_CHECK;
struct gt_signer *gt_signer_free(struct gt_signer *signer);
/* Returns the certificate in DER, owned by @signer; empty for NULL. */
struct gt_span gt_signer_certificate(const struct gt_signer *signer);
/* Returns the TLS SignatureScheme (RFC 8446, section 4.2.3); 0 for NULL. */
uint16_t gt_signer_algorithm(const struct gt_signer *signer);
/* Writes the SHA-256 of the SubjectPublicKeyInfo, as a pin file contains it. */
void gt_signer_fingerprint(const struct gt_signer *signer, uint8_t ret[static GT_KEY_SIZE]);

enum gt_signature_context { GT_SIGNATURE_REQ, GT_SIGNATURE_CLOSE, GT_SIGNATURE_ACK };
/* Signs 64 x 0x20 || context || 0 || SHA256(the concatenated parts); the form of RFC 8446, section
 * 4.4.3. Returns 0 or a negative errno. */
int gt_signer_sign(const struct gt_signer *signer, enum gt_signature_context context,
                   const struct gt_span *parts, size_t n_parts,
                   uint8_t ret[static GT_SIGNATURE_MAX], size_t *ret_n) GT_MUST_CHECK;
/* Returns 0 if proof->signature is valid for the key of proof->certificate and the declared sigalg
 * is that key's, E_DENIED if not, or a negative errno. */
int gt_signature_verify(const struct gt_proof *proof, enum gt_signature_context context,
                        const struct gt_span *parts, size_t n_parts,
                        uint8_t ret_fingerprint[static GT_KEY_SIZE]) GT_MUST_CHECK;

/* Writes the fingerprint of the key of proof->certificate. Returns false if there is none. */
bool gt_proof_fingerprint(const struct gt_proof *proof, uint8_t ret[static GT_KEY_SIZE]);

enum gt_policy { GT_POLICY_PSK, GT_POLICY_PIN, GT_POLICY_LIST };

struct gt_trust {
    enum gt_policy policy;
    struct gt_pin *pins; /* owned */
    size_t n_pins;
    time_t pins_time; /* set by the caller: when the pins were written; expiry is judged by no
                         earlier time, whatever the clock shows */
    /* list: */
    const struct gt_access_list *list; /* keeps; set by the caller; NULL: none, which denies all */
    uint64_t list_max_age_s;           /* an older list grants nothing; 0: any age */
    const char *device;                /* keeps; the device for which operators are judged */
};

void gt_trust_init_psk(struct gt_trust *trust);
/* Sets policy `pin` from the text of a pin file (pins.h). Returns 0, E_SYNTAX with *ret_line (from
 * 1) and a static *ret_why, or -ENOMEM. */
int gt_trust_parse_pins(struct gt_span text, struct gt_trust *ret, size_t *ret_line,
                        const char **ret_why) GT_MUST_CHECK;
/* Sets policy `list`, without a list. */
void gt_trust_init_list(struct gt_trust *trust, const char *device, uint64_t max_age_s);
void gt_trust_deinit(struct gt_trust *trust);
/* Returns the pin or the entry of the list that trusts a key of @name at @now; NULL if there is
 * none, and under `psk`. Owned by @trust. */
const struct gt_pin *gt_trust_find(const struct gt_trust *trust, bool is_operator, const char *name,
                                   const uint8_t fingerprint[static GT_KEY_SIZE], time_t now);
/* Returns the number of pins, or of entries of the list. */
size_t gt_trust_count(const struct gt_trust *trust);

/*
 * Checks whether the policy accepts a message by @name. Under `psk` it does, with *ret_pin = NULL;
 * a signature that is present must be valid nevertheless. Under `pin` and `list` the signature must
 * be valid and its key trusted for @name, unexpired at @now, with a suitable role: operator or
 * admin if @is_operator, otherwise device. Returns 0 with *ret_pin owned by @trust, E_DENIED, or a
 * negative errno.
 */
int gt_trust_check(const struct gt_trust *trust, bool is_operator, const char *name, time_t now,
                   const struct gt_proof *proof, enum gt_signature_context context,
                   const struct gt_span *parts, size_t n_parts,
                   const struct gt_pin **ret_pin) GT_MUST_CHECK;
