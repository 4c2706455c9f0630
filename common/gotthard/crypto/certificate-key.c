/* SPDX-License-Identifier: ISC */
/* Keys of certificates to come; see the header. The error queue of the thread stays empty. */
#include "gotthard/crypto/certificate-key.h"

#include <openssl/err.h>
#include <openssl/evp.h>

#include "gotthard/crypto/pem.h"

struct gt_certificate_key {
    EVP_PKEY *pkey;
};

static int libcrypto_failed(void)
{
    bool is_memory = ERR_GET_REASON(ERR_peek_last_error()) == ERR_R_MALLOC_FAILURE;

    ERR_clear_error();
    return is_memory ? -ENOMEM : -EIO;
}

int gt_certificate_key_new(struct gt_certificate_key **ret)
{
    struct gt_certificate_key *key = calloc(1, sizeof(*key));

    if (!key)
        return -ENOMEM;
    key->pkey = EVP_EC_gen("P-256");
    if (!key->pkey) {
        free(key);
        return libcrypto_failed();
    }
    *ret = key;
    return 0;
}

struct gt_certificate_key *gt_certificate_key_free(struct gt_certificate_key *key)
{
    if (key)
        EVP_PKEY_free(key->pkey);
    free(key);
    return NULL;
}

int gt_certificate_key_format(const struct gt_certificate_key *key, char **ret, size_t *ret_n)
{
    return gt_pem_format_key(key->pkey, ret, ret_n);
}

static bool request_fill(X509_REQ *request, EVP_PKEY *pkey, const char *name)
{
    X509_NAME *subject = X509_REQ_get_subject_name(request);

    return X509_REQ_set_version(request, X509_REQ_VERSION_1) == 1 &&
           X509_NAME_add_entry_by_NID(subject, NID_commonName, MBSTRING_ASC,
                                      (const unsigned char *)name, -1, -1, 0) == 1 &&
           X509_REQ_set_pubkey(request, pkey) == 1 &&
           X509_REQ_sign(request, pkey, EVP_sha256()) > 0;
}

int gt_certificate_key_request(const struct gt_certificate_key *key, const char *name, uint8_t *ret,
                               size_t *ret_n)
{
    X509_REQ *request = X509_REQ_new();
    unsigned char *der = NULL;
    int n = request && request_fill(request, key->pkey, name) ? i2d_X509_REQ(request, &der) : -1;
    bool is_good = n > 0 && n <= GT_CERTIFICATE_REQUEST_MAX;

    if (is_good) {
        memcpy(ret, der, (size_t)n);
        *ret_n = (size_t)n;
    }
    OPENSSL_free(der);
    X509_REQ_free(request);
    return is_good ? 0 : libcrypto_failed();
}

int gt_certificate_key_fingerprint(const struct gt_certificate_key *key,
                                   uint8_t ret[static GT_KEY_SIZE])
{
    unsigned char *der = NULL;
    int n = i2d_PUBKEY(key->pkey, &der);
    struct gt_span spki = gt_span(der, n > 0 ? (size_t)n : 0);
    int r = n > 0 ? gt_sha256(&spki, 1, ret) : libcrypto_failed();

    OPENSSL_free(der);
    return r;
}

int gt_certificate_key_sign(const struct gt_certificate_key *key,
                            const struct gt_statement *statement,
                            uint8_t ret[static GT_CERTIFICATE_KEY_SIGNATURE_MAX], size_t *ret_n)
{
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    size_t n = GT_CERTIFICATE_KEY_SIGNATURE_MAX;
    bool is_good = md && EVP_DigestSignInit(md, NULL, EVP_sha256(), NULL, key->pkey) == 1 &&
                   EVP_DigestSign(md, ret, &n, statement->bytes, statement->n) == 1;

    EVP_MD_CTX_free(md);
    if (!is_good)
        return libcrypto_failed();
    *ret_n = n;
    return 0;
}
