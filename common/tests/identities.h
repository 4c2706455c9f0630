/* SPDX-License-Identifier: ISC */
/*
 * Keys and self-signed certificates for tests, generated at run time: nothing in the repository can
 * expire or be mistaken for a real key.
 */
#pragma once

#include <assert.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <string.h>

#include "gotthard/signaling/trust.h"

struct identity {
    char certificate_pem[8192], key_pem[8192];
    struct gt_signer *signer; /* NULL when this kind of key is not accepted */
    int r;                    /* result of gt_signer_new() */
    uint8_t fingerprint[GT_KEY_SIZE];
    char fingerprint_hex[2 * GT_KEY_SIZE + 1];
};

/* Its public exponent has 40 bits. */
static inline EVP_PKEY *identity_slow_rsa(void)
{
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);
    BIGNUM *exponent = NULL;
    EVP_PKEY *key = NULL;

    BN_hex2bn(&exponent, "8000000001");
    EVP_PKEY_keygen_init(context);
    EVP_PKEY_CTX_set_rsa_keygen_bits(context, 2048);
    EVP_PKEY_CTX_set1_rsa_keygen_pubexp(context, exponent);
    EVP_PKEY_generate(context, &key);
    EVP_PKEY_CTX_free(context);
    BN_free(exponent);
    return key;
}

static inline EVP_PKEY *identity_key(const char *kind)
{
    if (strcmp(kind, "RSA-slow") == 0)
        return identity_slow_rsa();
    if (strncmp(kind, "RSA-", 4) == 0)
        return EVP_RSA_gen((unsigned)atoi(kind + 4));
    if (strncmp(kind, "P-", 2) == 0)
        return EVP_EC_gen(kind);
    return EVP_PKEY_Q_keygen(NULL, NULL, kind);
}

static inline X509 *identity_certificate(EVP_PKEY *key, const char *name)
{
    X509 *certificate = X509_new();

    ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
    X509_gmtime_adj(X509_getm_notBefore(certificate), 0);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
    X509_set_pubkey(certificate, key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate), "CN", MBSTRING_ASC,
                               (const unsigned char *)name, -1, -1, 0);
    X509_set_issuer_name(certificate, X509_get_subject_name(certificate));
    bool is_edwards = EVP_PKEY_is_a(key, "ED25519") || EVP_PKEY_is_a(key, "ED448");
    int n = X509_sign(certificate, key, is_edwards ? NULL : EVP_sha256());
    assert(n > 0);
    (void)n;
    return certificate;
}

static inline void identity_write(BIO *bio, char *ret, size_t cap)
{
    char *text;
    size_t n = (size_t)BIO_get_mem_data(bio, &text);

    assert(n < cap);
    memcpy(ret, text, n);
    ret[n] = 0;
    BIO_free(bio);
}

/* Kinds: "P-256" "P-384" "P-521" "RSA-2048" "RSA-1024" "ED25519". */
static inline void identity_init(struct identity *identity, const char *kind, const char *name)
{
    EVP_PKEY *key = identity_key(kind);

    assert(key);
    X509 *certificate = identity_certificate(key, name);
    BIO *certificate_bio = BIO_new(BIO_s_mem()), *key_bio = BIO_new(BIO_s_mem());
    PEM_write_bio_X509(certificate_bio, certificate);
    PEM_write_bio_PrivateKey(key_bio, key, NULL, NULL, 0, NULL, NULL);
    memset(identity, 0, sizeof(*identity));
    identity_write(certificate_bio, identity->certificate_pem, sizeof(identity->certificate_pem));
    identity_write(key_bio, identity->key_pem, sizeof(identity->key_pem));
    X509_free(certificate);
    EVP_PKEY_free(key);
    char why[GT_TRUST_WHY];
    identity->r = gt_signer_new(gt_span_text(identity->certificate_pem),
                                gt_span_text(identity->key_pem), &identity->signer, why);
    if (identity->signer) {
        gt_signer_fingerprint(identity->signer, identity->fingerprint);
        gt_text_hex(identity->fingerprint, GT_KEY_SIZE, identity->fingerprint_hex);
    }
}

static inline void identity_deinit(struct identity *identity)
{
    identity->signer = gt_signer_free(identity->signer);
}
