/* SPDX-License-Identifier: ISC */
/*
 * The exchange of an enrolment, both sides (docs/protocol.md, section 8). A newcomer sends a
 * request with its own new key for certificates; the operator's command answers with a bundle,
 * sealed under a key that follows from the private half of the token's P. Neither the relay nor a
 * thief of the token can make an answer, or read it.
 *
 * Both travel over one stream of the built-in service "@enroll", in frames of type u8 || size u32.
 * Pure.
 */
#pragma once

#include "gotthard/crypto/certificate-key.h"
#include "gotthard/crypto/seal.h"
#include "gotthard/trust/bundle.h"

#define GT_ENROLMENT_SERVICE "@enroll"

/* --- frames ----------------------------------------------------------------------------------- */

enum gt_enrolment_frame {
    GT_ENROLMENT_REQUEST = 1, /* newcomer: first, once */
    GT_ENROLMENT_ANSWER,      /* operator: once */
    GT_ENROLMENT_REJECTION,   /* operator, in place of ANSWER: a text for people */
    GT_ENROLMENT_RESULT,      /* newcomer, after ANSWER: is_installed u8 || a text for people */
};

#define GT_ENROLMENT_HEAD        5
#define GT_ENROLMENT_REQUEST_MAX (16 * 1024) /* bytes of the bodies */
#define GT_ENROLMENT_ANSWER_MAX  (GT_BUNDLE_MAX + GT_SEAL_OVERHEAD)
#define GT_ENROLMENT_TEXT_MAX    400 /* printable ASCII */

/* A reason for users was written to @ret_why (GT_ENROLMENT_WHY bytes), or the input was not what
 * its sender has to send. */
#define GT_ENROLMENT_WHY 200
enum { GT_ENROLMENT_E_BAD = 1 };

/* Writes the head of a frame with a body of @n bytes. */
void gt_enrolment_write_head(enum gt_enrolment_frame type, size_t n,
                             uint8_t ret[static GT_ENROLMENT_HEAD]);
/* Reads a head. E_BAD: an unknown type, or a longer body than its type has. */
int gt_enrolment_read_head(const uint8_t head[static GT_ENROLMENT_HEAD],
                           enum gt_enrolment_frame *ret_type, size_t *ret_n) GT_MUST_CHECK;
/* Encode and decode RESULT. @ret: 1 + GT_ENROLMENT_TEXT_MAX bytes. @ret_text: with its NUL one more
 * than GT_ENROLMENT_TEXT_MAX; unprintable characters are escaped. */
size_t gt_enrolment_write_result(bool is_installed, const char *text, uint8_t *ret);
int gt_enrolment_read_result(struct gt_span body, bool *ret_is_installed,
                             char ret_text[static GT_ENROLMENT_TEXT_MAX + 1]) GT_MUST_CHECK;

/* Formats a fingerprint for two people who compare it: 16 groups of 4 hex digits. */
#define GT_ENROLMENT_FINGERPRINT_TEXT 80 /* bytes with the NUL */
void gt_enrolment_format_fingerprint(const uint8_t fingerprint[static GT_KEY_SIZE],
                                     char ret[static GT_ENROLMENT_FINGERPRINT_TEXT]);

/* Derives k, with which the answer is sealed: from PRK_T, a private key (x or p), the public key of
 * the other side, and the SHA-256 of the request. E_BAD for a public key of low order; or a
 * negative errno. */
int gt_enrolment_answer_key(const uint8_t prk_of_token[static GT_KEY_SIZE],
                            const uint8_t private_key[static GT_KEY_SIZE],
                            const uint8_t public_key[static GT_KEY_SIZE],
                            const uint8_t hash[static GT_KEY_SIZE],
                            uint8_t ret[static GT_KEY_SIZE]) GT_MUST_CHECK;

/* --- the newcomer ----------------------------------------------------------------------------- */

#define GT_ENROLMENT_HOST_KEYS_MAX 16
#define GT_ENROLMENT_SOFTWARE_MAX  64 /* bytes, printable */

/* What the newcomer waits for. Secret. */
struct gt_enrolment_pending { /* fields are private */
    enum gt_token_kind kind;
    uint8_t key[GT_KEY_SIZE]; /* k, with which the answer is sealed */
};

/*
 * Makes the request of @token for @key. @host_keys: public ssh host keys, a line each; those that
 * do not fit are left out. @ret: GT_ENROLMENT_REQUEST_MAX bytes. Returns 0, E_BAD if the token's P
 * is not acceptable (a point of low order), or a negative errno. The caller wipes *ret_pending.
 */
int gt_enrolment_request_make(const struct gt_token *token, const struct gt_certificate_key *key,
                              const struct gt_span *host_keys, size_t n_host_keys,
                              const char *software, struct gt_enrolment_pending *ret_pending,
                              uint8_t *ret, size_t *ret_n) GT_MUST_CHECK;
/* Opens the answer. @ret has room for @answer.n bytes; the bundle has *ret_n. E_BAD: it was not
 * made by the operator's command that made this token, for this request. Nothing of it counts. */
int gt_enrolment_answer_open(const struct gt_enrolment_pending *pending, struct gt_span answer,
                             uint8_t *ret, size_t *ret_n) GT_MUST_CHECK;

/* --- the operator ----------------------------------------------------------------------------- */

struct gt_enrolment_request {
    uint8_t fingerprint[GT_KEY_SIZE]; /* SHA-256 of the SubjectPublicKeyInfo of the newcomer's key:
                                         what both screens show, and access lists contain */
    struct gt_span certificate_request; /* DER; borrows, as all spans */
    struct gt_span host_keys[GT_ENROLMENT_HOST_KEYS_MAX];
    size_t n_host_keys;
    char software[GT_ENROLMENT_SOFTWARE_MAX + 1]; /* printable; only a claim, as the host keys */
    uint8_t public_key[GT_KEY_SIZE];              /* x*G */
    uint8_t hash[GT_KEY_SIZE];                    /* of the whole request */
};

/* Reads a request for @token and checks its signatures. E_BAD with a reason in @ret_why; or a
 * negative errno. */
int gt_enrolment_request_open(const struct gt_token *token, struct gt_span bytes,
                              struct gt_enrolment_request *ret,
                              char ret_why[static GT_ENROLMENT_WHY]) GT_MUST_CHECK;
/*
 * Seals the answer to @request, once: @private_key, that of gt_token_new(), is wiped, and a wiped
 * one is refused. @bundle: encoded. @ret: @bundle.n + GT_SEAL_OVERHEAD bytes. Returns 0; E_BAD if
 * the key is wiped or the newcomer's is of low order; or a negative errno.
 */
int gt_enrolment_answer_make(const struct gt_token *token, uint8_t private_key[static GT_KEY_SIZE],
                             const struct gt_enrolment_request *request, struct gt_span bundle,
                             uint8_t *ret) GT_MUST_CHECK;
