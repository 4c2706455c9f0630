/* SPDX-License-Identifier: ISC */
/*
 * Who may do this, now? Signatures over what was said, and the receiver's own policy about them:
 * `psk` (the sealing is proof enough), or `pin` (a file of SPKI hashes, each with a name, a role,
 * services and an expiry: pins.h). The policy is never negotiated. Pure but for libcrypto: files
 * are read by the caller.
 */
#pragma once

#include "gotthard/message.h"
#include "gotthard/pins.h"

enum {
    GT_TRUST_E_SYNTAX = 1, /* not a key, certificate or pin file */
    GT_TRUST_E_MISMATCH,   /* the key does not belong to the certificate */
    GT_TRUST_E_UNSUITED,   /* an algorithm or size that is not accepted */
    GT_TRUST_E_DENIED,     /* signature missing, wrong, or not by anybody trusted */
};
const char *gt_trust_strerror(int condition);

/* The key and certificate a side signs with: the MQTT client's own. */
struct gt_signer;
/* PEM texts, with the private key unencrypted. E_SYNTAX, E_MISMATCH, E_UNSUITED. */
int gt_signer_new(struct gt_span certificate_pem, struct gt_span key_pem,
                  struct gt_signer **ret) GT_MUST_CHECK;
struct gt_signer *gt_signer_free(struct gt_signer *signer);
struct gt_span
gt_signer_certificate(const struct gt_signer *signer); /* DER; borrows. NULL signer: empty */
uint16_t gt_signer_algorithm(const struct gt_signer *signer);
/* The SPKI's SHA-256, what a pin file names. */
void gt_signer_fingerprint(const struct gt_signer *signer, uint8_t ret[static GT_KEY_SIZE]);

enum gt_signature_context { GT_SIGNATURE_REQ, GT_SIGNATURE_CLOSE, GT_SIGNATURE_ACK };
/* Signs 64 x 0x20 || context || 0 || SHA256(the parts joined). */
int gt_signer_sign(const struct gt_signer *signer, enum gt_signature_context context,
                   const struct gt_span *parts, size_t n_parts,
                   uint8_t ret[static GT_SIGNATURE_MAX], size_t *ret_n) GT_MUST_CHECK;
/* E_DENIED unless proof->signature is right for proof->certificate's key, of the declared sigalg.
 */
int gt_signature_verify(const struct gt_proof *proof, enum gt_signature_context context,
                        const struct gt_span *parts, size_t n_parts,
                        uint8_t ret_fingerprint[static GT_KEY_SIZE]) GT_MUST_CHECK;

enum gt_policy { GT_POLICY_PSK, GT_POLICY_PIN };

struct gt_trust {
    enum gt_policy policy;
    struct gt_pin *pins; /* owned */
    size_t n_pins;
};

void gt_trust_init_psk(struct gt_trust *trust);
/* Policy `pin`, from the text of a pin file (pins.h). E_SYNTAX with *ret_line (from 1) and *ret_why
 * (static) set. */
int gt_trust_parse_pins(struct gt_span text, struct gt_trust *ret, size_t *ret_line,
                        const char **ret_why) GT_MUST_CHECK;
void gt_trust_deinit(struct gt_trust *trust);

/*
 * Was this said by @name, in one of the roles? Under `psk`: good with *ret_pin = NULL (a signature
 * that is there must be right all the same). Under `pin`: the signature must verify, its key be
 * pinned for @name, unexpired at @now, in a role that may (operator or admin when @is_operator,
 * else device).
 */
int gt_trust_check(const struct gt_trust *trust, bool is_operator, const char *name, time_t now,
                   const struct gt_proof *proof, enum gt_signature_context context,
                   const struct gt_span *parts, size_t n_parts,
                   const struct gt_pin **ret_pin) GT_MUST_CHECK;
