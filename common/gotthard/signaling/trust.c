/* SPDX-License-Identifier: ISC */
/*
 * Signatures and policies. The digest and padding of a signature follow from the declared
 * algorithm, which must be the only one accepted for its key. Nothing is negotiated, and only the
 * public key of a certificate is used. Names, dates and issuers in it must not matter: the pin file
 * defines them.
 */
#include "gotthard/signaling/trust.h"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <stdio.h>

#include "gotthard/crypto/pem.h"
#include "gotthard/crypto/statement.h"

#define RSA_BITS_MIN 2048
#define RSA_BITS_MAX (8 * GT_SIGNATURE_MAX)
/* 65537 is usual. The owner of a key must not choose how long its signatures take to verify. */
#define RSA_EXPONENT_BITS_MAX 32

enum {
    SIGALG_ECDSA_P256 = 0x0403,
    SIGALG_ECDSA_P384 = 0x0503,
    SIGALG_RSA_PSS = 0x0804,
    SIGALG_ED25519 = 0x0807,
};

struct gt_signer {
    EVP_PKEY *key;
    uint8_t certificate[GT_CERTIFICATE_MAX];
    size_t n_certificate;
    uint16_t sigalg;
    uint8_t fingerprint[GT_KEY_SIZE];
};

const char *gt_trust_strerror(int condition)
{
    switch (condition) {
    case GT_TRUST_E_SYNTAX: return "not a certificate, an unencrypted key or a pin file";
    case GT_TRUST_E_MISMATCH: return "the private key does not belong to the certificate";
    case GT_TRUST_E_UNSUITED:
        return "the key is not ECDSA P-256 or P-384, RSA of 2048 to 8192 bits, or Ed25519, or its "
               "certificate is longer than 4096 bytes";
    case GT_TRUST_E_DENIED: return "not signed, or not by a trusted key";
    }
    return "unknown error";
}

/* --- keys ----------------------------------------------------------------------------------- */

static bool is_suited_rsa(const EVP_PKEY *key)
{
    int bits = EVP_PKEY_get_bits(key);
    BIGNUM *exponent = NULL;
    bool is_suited = bits >= RSA_BITS_MIN && bits <= RSA_BITS_MAX &&
                     EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_E, &exponent) == 1 &&
                     BN_num_bits(exponent) <= RSA_EXPONENT_BITS_MAX;

    BN_free(exponent);
    return is_suited;
}

/* Returns the only algorithm accepted for @key, or 0. */
static uint16_t sigalg_of(const EVP_PKEY *key)
{
    char group[32] = "";

    if (EVP_PKEY_is_a(key, "ED25519"))
        return SIGALG_ED25519;
    if (EVP_PKEY_is_a(key, "RSA"))
        return is_suited_rsa(key) ? SIGALG_RSA_PSS : 0;
    if (!EVP_PKEY_is_a(key, "EC") ||
        EVP_PKEY_get_utf8_string_param(key, OSSL_PKEY_PARAM_GROUP_NAME, group, sizeof(group),
                                       NULL) != 1)
        return 0;
    if (strcmp(group, "prime256v1") == 0)
        return SIGALG_ECDSA_P256;
    return strcmp(group, "secp384r1") == 0 ? SIGALG_ECDSA_P384 : 0;
}

static bool fingerprint_of(const X509 *certificate, uint8_t ret[static GT_KEY_SIZE])
{
    unsigned char *der = NULL;
    int n = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate), &der);
    struct gt_span spki = gt_span(der, n > 0 ? (size_t)n : 0);
    bool is_good = n > 0 && gt_sha256(&spki, 1, ret) == 0;

    OPENSSL_free(der);
    return is_good;
}

/* --- the signer ----------------------------------------------------------------------------- */

static int signer_load(struct gt_signer *signer, X509 *certificate)
{
    unsigned char *der = NULL;

    if (X509_check_private_key(certificate, signer->key) != 1)
        return GT_TRUST_E_MISMATCH;
    signer->sigalg = sigalg_of(signer->key);
    int n = i2d_X509(certificate, &der);
    if (n > 0 && n <= GT_CERTIFICATE_MAX) {
        memcpy(signer->certificate, der, (size_t)n);
        signer->n_certificate = (size_t)n;
    }
    OPENSSL_free(der);
    if (n <= 0 || !fingerprint_of(certificate, signer->fingerprint))
        return -EIO;
    return signer->sigalg && signer->n_certificate ? 0 : GT_TRUST_E_UNSUITED;
}

static void signer_explain(const struct gt_signer *signer, int condition, char *ret_why)
{
    char group[32] = "";

    (void)EVP_PKEY_get_utf8_string_param(signer->key, OSSL_PKEY_PARAM_GROUP_NAME, group,
                                         sizeof(group), NULL);
    if (condition == GT_TRUST_E_UNSUITED && !signer->sigalg)
        snprintf(ret_why, GT_TRUST_WHY,
                 "a key of kind %s (%d bits) does not sign messages; P-256, P-384, Ed25519 and RSA "
                 "of 2048 to 8192 bits do",
                 *group ? group : EVP_PKEY_get0_type_name(signer->key),
                 EVP_PKEY_get_bits(signer->key));
    else if (condition == GT_TRUST_E_UNSUITED)
        snprintf(ret_why, GT_TRUST_WHY,
                 "a certificate of more than %d bytes does not fit into messages",
                 GT_CERTIFICATE_MAX);
    else
        snprintf(ret_why, GT_TRUST_WHY, "%s", gt_trust_strerror(condition));
}

static int signer_parse(struct gt_signer *signer, struct gt_span certificate_pem,
                        struct gt_span key_pem, char *ret_why)
{
    struct stack_st_X509 *certificates = NULL;
    char why[GT_PEM_WHY];
    int r = gt_pem_certificates(certificate_pem, &certificates, why);

    if (r == GT_PEM_E_BAD)
        snprintf(ret_why, GT_TRUST_WHY, "certificate: %s", why);
    if (r == 0) {
        r = gt_pem_key(key_pem, &signer->key, why);
        if (r == GT_PEM_E_BAD)
            snprintf(ret_why, GT_TRUST_WHY, "private key: %s", why);
    }
    if (r > 0)
        r = GT_TRUST_E_SYNTAX;
    if (r == 0) {
        r = signer_load(signer, sk_X509_value(certificates, 0));
        if (r > 0)
            signer_explain(signer, r, ret_why);
    }
    gt_pem_certificates_free(certificates);
    return r;
}

int gt_signer_new(struct gt_span certificate_pem, struct gt_span key_pem, struct gt_signer **ret,
                  char ret_why[static GT_TRUST_WHY])
{
    struct gt_signer *signer = calloc(1, sizeof(*signer));

    if (!signer)
        return -ENOMEM;
    int r = signer_parse(signer, certificate_pem, key_pem, ret_why);
    ERR_clear_error();
    if (r)
        gt_signer_free(signer);
    else
        *ret = signer;
    return r;
}

struct gt_signer *gt_signer_free(struct gt_signer *signer)
{
    if (signer)
        EVP_PKEY_free(signer->key);
    free(signer);
    return NULL;
}

struct gt_span gt_signer_certificate(const struct gt_signer *signer)
{
    return signer ? gt_span(signer->certificate, signer->n_certificate) : gt_span("", 0);
}

uint16_t gt_signer_algorithm(const struct gt_signer *signer)
{
    return signer ? signer->sigalg : 0;
}

void gt_signer_fingerprint(const struct gt_signer *signer, uint8_t ret[static GT_KEY_SIZE])
{
    memcpy(ret, signer->fingerprint, GT_KEY_SIZE);
}

/* --- signatures ----------------------------------------------------------------------------- */

static const char *context_text(enum gt_signature_context context)
{
    switch (context) {
    case GT_SIGNATURE_REQ: return "Gotthard v1, operator request";
    case GT_SIGNATURE_CLOSE: return "Gotthard v1, operator close";
    case GT_SIGNATURE_ACK: return "Gotthard v1, device ack";
    }
    abort();
}

/* The digest follows from the algorithm, never from the key's default. */
static const EVP_MD *digest_of(uint16_t sigalg)
{
    if (sigalg == SIGALG_ED25519)
        return NULL;
    return sigalg == SIGALG_ECDSA_P384 ? EVP_sha384() : EVP_sha256();
}

static bool set_padding(EVP_PKEY_CTX *pkey, uint16_t sigalg)
{
    return sigalg != SIGALG_RSA_PSS ||
           (EVP_PKEY_CTX_set_rsa_padding(pkey, RSA_PKCS1_PSS_PADDING) == 1 &&
            EVP_PKEY_CTX_set_rsa_pss_saltlen(pkey, RSA_PSS_SALTLEN_DIGEST) == 1);
}

int gt_signer_sign(const struct gt_signer *signer, enum gt_signature_context context,
                   const struct gt_span *parts, size_t n_parts,
                   uint8_t ret[static GT_SIGNATURE_MAX], size_t *ret_n)
{
    struct gt_statement statement;
    EVP_PKEY_CTX *pkey = NULL; /* owned by md */
    size_t n = GT_SIGNATURE_MAX;
    int r = gt_statement_make(context_text(context), parts, n_parts, &statement);

    if (r)
        return r;
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    bool is_good =
        md && EVP_DigestSignInit(md, &pkey, digest_of(signer->sigalg), NULL, signer->key) == 1 &&
        set_padding(pkey, signer->sigalg) &&
        EVP_DigestSign(md, ret, &n, statement.bytes, statement.n) == 1;
    EVP_MD_CTX_free(md);
    ERR_clear_error();
    if (!is_good)
        return -EIO;
    *ret_n = n;
    return 0;
}

static bool is_signed_by(EVP_PKEY *key, const struct gt_proof *proof,
                         const struct gt_statement *statement)
{
    EVP_PKEY_CTX *pkey = NULL; /* owned by md */
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    bool is_good = md &&
                   EVP_DigestVerifyInit(md, &pkey, digest_of(proof->sigalg), NULL, key) == 1 &&
                   set_padding(pkey, proof->sigalg) &&
                   EVP_DigestVerify(md, proof->signature.data, proof->signature.n, statement->bytes,
                                    statement->n) == 1;

    EVP_MD_CTX_free(md);
    return is_good;
}

/* Returns NULL unless @der is exactly one certificate. */
static X509 *parse_certificate(struct gt_span der)
{
    const unsigned char *at = der.data;

    if (!der.n || der.n > GT_CERTIFICATE_MAX)
        return NULL;
    X509 *certificate = d2i_X509(NULL, &at, (long)der.n);
    if (certificate && at == der.data + der.n)
        return certificate;
    X509_free(certificate);
    return NULL;
}

int gt_signature_verify(const struct gt_proof *proof, enum gt_signature_context context,
                        const struct gt_span *parts, size_t n_parts,
                        uint8_t ret_fingerprint[static GT_KEY_SIZE])
{
    struct gt_statement statement;
    uint8_t fingerprint[GT_KEY_SIZE];
    int r = gt_statement_make(context_text(context), parts, n_parts, &statement);

    if (r)
        return r;
    X509 *certificate = parse_certificate(proof->certificate);
    EVP_PKEY *key = certificate ? X509_get0_pubkey(certificate) : NULL;
    bool is_good = key && proof->signature.n && proof->signature.n <= GT_SIGNATURE_MAX &&
                   proof->sigalg && proof->sigalg == sigalg_of(key) &&
                   fingerprint_of(certificate, fingerprint) && is_signed_by(key, proof, &statement);
    X509_free(certificate);
    ERR_clear_error();
    if (!is_good)
        return GT_TRUST_E_DENIED;
    memcpy(ret_fingerprint, fingerprint, sizeof(fingerprint));
    return 0;
}

bool gt_proof_fingerprint(const struct gt_proof *proof, uint8_t ret[static GT_KEY_SIZE])
{
    X509 *certificate = parse_certificate(proof->certificate);
    bool is_valid = certificate && fingerprint_of(certificate, ret);

    X509_free(certificate);
    ERR_clear_error();
    return is_valid;
}

/* --- policies ------------------------------------------------------------------------------- */

void gt_trust_init_psk(struct gt_trust *trust)
{
    *trust = (struct gt_trust){.policy = GT_POLICY_PSK};
}

int gt_trust_parse_pins(struct gt_span text, struct gt_trust *ret, size_t *ret_line,
                        const char **ret_why)
{
    struct gt_trust trust = {.policy = GT_POLICY_PIN};
    int r = gt_pins_parse(text, &trust.pins, &trust.n_pins, ret_line, ret_why);

    if (r)
        return r < 0 ? r : GT_TRUST_E_SYNTAX;
    *ret = trust;
    return 0;
}

void gt_trust_init_list(struct gt_trust *trust, const char *device, uint64_t max_age_s)
{
    *trust =
        (struct gt_trust){.policy = GT_POLICY_LIST, .device = device, .list_max_age_s = max_age_s};
}

void gt_trust_deinit(struct gt_trust *trust)
{
    gt_pins_free(trust->pins, trust->n_pins);
    *trust = (struct gt_trust){.policy = GT_POLICY_PIN}; /* a released trust must deny all */
}

static const struct gt_pin *find_pin(const struct gt_trust *trust, bool is_operator,
                                     const char *name, time_t now, const uint8_t *fingerprint)
{
    for (size_t i = 0; i < trust->n_pins; i++) {
        const struct gt_pin *pin = &trust->pins[i];

        if (memcmp(pin->fingerprint, fingerprint, GT_KEY_SIZE) == 0 &&
            strcmp(pin->name, name) == 0 && (!pin->until || now < pin->until) &&
            is_operator == (pin->role != GT_PIN_DEVICE))
            return pin;
    }
    return NULL;
}

static const struct gt_pin *find_listed(const struct gt_trust *trust, bool is_operator,
                                        const char *name, time_t now, const uint8_t *fingerprint)
{
    if (!trust->list || gt_access_list_is_too_old(trust->list, now, trust->list_max_age_s))
        return NULL;
    return is_operator ? gt_access_list_operator(trust->list, name, fingerprint, trust->device, now)
                       : gt_access_list_device(trust->list, name, fingerprint, now);
}

const struct gt_pin *gt_trust_find(const struct gt_trust *trust, bool is_operator, const char *name,
                                   const uint8_t fingerprint[static GT_KEY_SIZE], time_t now)
{
    switch (trust->policy) {
    case GT_POLICY_PSK: return NULL;
    case GT_POLICY_PIN:
        return find_pin(trust, is_operator, name, GT_MAX(now, trust->pins_time), fingerprint);
    case GT_POLICY_LIST: return find_listed(trust, is_operator, name, now, fingerprint);
    }
    return NULL;
}

size_t gt_trust_count(const struct gt_trust *trust)
{
    return trust->list ? gt_access_list_count(trust->list) : trust->n_pins;
}

/* A key that is not trusted costs no verification: its owner may have chosen a slow one. */
static const struct gt_pin *find_pin_of_proof(const struct gt_trust *trust, bool is_operator,
                                              const char *name, time_t now,
                                              const struct gt_proof *proof)
{
    uint8_t fingerprint[GT_KEY_SIZE];

    return gt_proof_fingerprint(proof, fingerprint)
               ? gt_trust_find(trust, is_operator, name, fingerprint, now)
               : NULL;
}

int gt_trust_check(const struct gt_trust *trust, bool is_operator, const char *name, time_t now,
                   const struct gt_proof *proof, enum gt_signature_context context,
                   const struct gt_span *parts, size_t n_parts, const struct gt_pin **ret_pin)
{
    uint8_t fingerprint[GT_KEY_SIZE];
    const struct gt_pin *pin = NULL;
    bool is_signed = proof->certificate.n || proof->sigalg || proof->signature.n;

    switch (trust->policy) {
    case GT_POLICY_PSK: break;
    case GT_POLICY_PIN:
    case GT_POLICY_LIST:
        pin = is_signed ? find_pin_of_proof(trust, is_operator, name, now, proof) : NULL;
        if (!pin)
            return GT_TRUST_E_DENIED;
        break;
    }
    int r = is_signed ? gt_signature_verify(proof, context, parts, n_parts, fingerprint) : 0;
    if (r)
        return r;
    *ret_pin = pin;
    return 0;
}
