/* SPDX-License-Identifier: ISC */
/* Requests of certificates; see the header. The error queue of the thread stays empty. */
#include "gotthard/crypto/certificate-request.h"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>

/* Returns NULL unless @der is exactly one request. */
static X509_REQ *parse(struct gt_span der)
{
    const unsigned char *at = der.data;

    if (!der.n || der.n > GT_CERTIFICATE_REQUEST_MAX)
        return NULL;
    X509_REQ *request = d2i_X509_REQ(NULL, &at, (long)der.n);
    if (request && at == der.data + der.n)
        return request;
    X509_REQ_free(request);
    return NULL;
}

static bool is_p256(const EVP_PKEY *key)
{
    char group[32] = "";

    return key && EVP_PKEY_is_a(key, "EC") &&
           EVP_PKEY_get_utf8_string_param(key, OSSL_PKEY_PARAM_GROUP_NAME, group, sizeof(group),
                                          NULL) == 1 &&
           strcmp(group, "prime256v1") == 0;
}

static bool fingerprint_of(X509_REQ *request, uint8_t *ret)
{
    unsigned char *der = NULL;
    int n = i2d_X509_PUBKEY(X509_REQ_get_X509_PUBKEY(request), &der);
    struct gt_span spki = gt_span(der, n > 0 ? (size_t)n : 0);
    bool is_good = n > 0 && gt_sha256(&spki, 1, ret) == 0;

    OPENSSL_free(der);
    return is_good;
}

int gt_certificate_request_check(struct gt_span der, uint8_t ret_fingerprint[static GT_KEY_SIZE])
{
    uint8_t fingerprint[GT_KEY_SIZE];
    X509_REQ *request = parse(der);
    EVP_PKEY *key = request ? X509_REQ_get0_pubkey(request) : NULL;
    bool is_good =
        is_p256(key) && X509_REQ_verify(request, key) == 1 && fingerprint_of(request, fingerprint);

    X509_REQ_free(request);
    ERR_clear_error();
    if (!is_good)
        return GT_CERTIFICATE_REQUEST_E_BAD;
    memcpy(ret_fingerprint, fingerprint, sizeof(fingerprint));
    return 0;
}

static bool is_signed_by(EVP_PKEY *key, const struct gt_statement *statement,
                         struct gt_span signature)
{
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    bool is_good =
        md && EVP_DigestVerifyInit(md, NULL, EVP_sha256(), NULL, key) == 1 &&
        EVP_DigestVerify(md, signature.data, signature.n, statement->bytes, statement->n) == 1;

    EVP_MD_CTX_free(md);
    return is_good;
}

int gt_certificate_request_verify(struct gt_span der, const struct gt_statement *statement,
                                  struct gt_span signature)
{
    X509_REQ *request = parse(der);
    EVP_PKEY *key = request ? X509_REQ_get0_pubkey(request) : NULL;
    bool is_good = is_p256(key) && signature.n > 0 &&
                   signature.n <= GT_CERTIFICATE_KEY_SIGNATURE_MAX &&
                   is_signed_by(key, statement, signature);

    X509_REQ_free(request);
    ERR_clear_error();
    return is_good ? 0 : GT_CERTIFICATE_REQUEST_E_BAD;
}

int gt_certificate_request_key(struct gt_span der, EVP_PKEY **ret)
{
    X509_REQ *request = parse(der);
    EVP_PKEY *key = request ? X509_REQ_get_pubkey(request) : NULL;
    bool is_good = is_p256(key);

    X509_REQ_free(request);
    ERR_clear_error();
    if (!is_good) {
        EVP_PKEY_free(key);
        return GT_CERTIFICATE_REQUEST_E_BAD;
    }
    *ret = key;
    return 0;
}
