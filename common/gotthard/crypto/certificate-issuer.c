/* SPDX-License-Identifier: ISC */
/*
 * See the header. Times are passed to OpenSSL as texts: its time_t may have another size than ours
 * on 32-bit machines.
 */
#include "gotthard/crypto/certificate-issuer.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509v3.h>
#include <stdio.h>

#include "gotthard/crypto/pem.h"

#define SERIAL_SIZE 16   /* bytes: RFC 5280, section 4.1.2.2 permits 20 */
#define BACKDATED_S 3600 /* for a broker whose clock is slow */

struct gt_issuer {
    X509 *certificate;
    EVP_PKEY *key;
};

static int fail(char *ret_why, const char *why)
{
    snprintf(ret_why, GT_ISSUER_WHY, "%s", why);
    return GT_ISSUER_E_BAD;
}

/* --- times ------------------------------------------------------------------------------------ */

static bool set_time(ASN1_TIME *time, time_t at)
{
    struct tm tm;
    char text[24];

    return gmtime_r(&at, &tm) && strftime(text, sizeof(text), "%Y%m%d%H%M%SZ", &tm) > 0 &&
           ASN1_TIME_set_string_X509(time, text) == 1;
}

/* Returns false if it cannot be read. */
static bool get_time(const ASN1_TIME *time, time_t *ret)
{
    struct tm tm;

    if (ASN1_TIME_to_tm(time, &tm) != 1)
        return false;
    *ret = timegm(&tm);
    return true;
}

/* --- fingerprints ---------------------------------------------------------------------------- */

static int hash_key(X509_PUBKEY *key, uint8_t ret[static GT_KEY_SIZE])
{
    unsigned char *der = NULL;
    int n = i2d_X509_PUBKEY(key, &der);
    struct gt_span spki = gt_span(der, n > 0 ? (size_t)n : 0);
    int r = n > 0 ? gt_sha256(&spki, 1, ret) : -EIO;

    OPENSSL_free(der);
    return r > 0 ? -EIO : r;
}

int gt_certificate_fingerprint(struct gt_span pem, uint8_t ret[static GT_KEY_SIZE],
                               char ret_why[static GT_ISSUER_WHY])
{
    struct stack_st_X509 *certificates = NULL;
    char why[GT_PEM_WHY];
    int r = gt_pem_certificates(pem, &certificates, why);

    if (r > 0)
        return fail(ret_why, why);
    if (r == 0)
        r = hash_key(X509_get_X509_PUBKEY(sk_X509_value(certificates, 0)), ret);
    gt_pem_certificates_free(certificates);
    return r;
}

/* --- certificates ----------------------------------------------------------------------------- */

struct extension {
    int nid;
    const char *value;
};

/* As make-certificate-example has them. */
static const struct extension root_extensions[] = {
    {NID_basic_constraints, "critical,CA:TRUE,pathlen:0"},
    {NID_key_usage, "critical,keyCertSign,cRLSign"},
    {NID_subject_key_identifier, "hash"},
};
static const struct extension client_extensions[] = {
    {NID_basic_constraints, "CA:FALSE"},     {NID_key_usage, "digitalSignature"},
    {NID_ext_key_usage, "clientAuth"},       {NID_subject_key_identifier, "hash"},
    {NID_authority_key_identifier, "keyid"},
};

static bool add_extensions(X509 *certificate, X509 *issuer, const struct extension *extensions,
                           size_t n)
{
    X509V3_CTX context;
    bool is_added = true;

    X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
    for (size_t i = 0; i < n && is_added; i++) {
        X509_EXTENSION *extension =
            X509V3_EXT_conf_nid(NULL, &context, extensions[i].nid, extensions[i].value);

        is_added = extension && X509_add_ext(certificate, extension, -1) == 1;
        X509_EXTENSION_free(extension);
    }
    return is_added;
}

/* A positive number of 127 random bits. */
static bool set_serial(X509 *certificate, char ret[static GT_CERTIFICATE_SERIAL_TEXT])
{
    uint8_t bytes[SERIAL_SIZE];

    if (gt_random(bytes, sizeof(bytes)) != 0)
        return false;
    bytes[0] = (uint8_t)((bytes[0] & 0x7f) | 0x40);
    for (size_t i = 0; i < sizeof(bytes); i++)
        snprintf(ret + 2 * i, 3, "%02X", bytes[i]);
    BIGNUM *number = BN_bin2bn(bytes, sizeof(bytes), NULL);
    bool is_set = number && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate));
    BN_free(number);
    return is_set;
}

static bool set_subject(X509 *certificate, const char *name)
{
    return X509_NAME_add_entry_by_NID(X509_get_subject_name(certificate), NID_commonName,
                                      MBSTRING_UTF8, (const unsigned char *)name, -1, -1, 0) == 1;
}

static bool sign(X509 *certificate, EVP_PKEY *key)
{
    return X509_sign(certificate, key, EVP_PKEY_is_a(key, "ED25519") ? NULL : EVP_sha256()) > 0;
}

struct certificate_facts {
    const char *name;
    time_t not_before, not_after;
};

/* Returns a certificate without extensions and signature, which has no issuer yet, or NULL. */
static X509 *begin(const struct certificate_facts *facts, EVP_PKEY *key,
                   char ret_serial[static GT_CERTIFICATE_SERIAL_TEXT])
{
    X509 *certificate = X509_new();

    if (certificate && X509_set_version(certificate, X509_VERSION_3) == 1 &&
        set_serial(certificate, ret_serial) && set_subject(certificate, facts->name) &&
        set_time(X509_getm_notBefore(certificate), facts->not_before) &&
        set_time(X509_getm_notAfter(certificate), facts->not_after) &&
        X509_set_pubkey(certificate, key) == 1)
        return certificate;
    X509_free(certificate);
    return NULL;
}

static int format(X509 *certificate, char **ret)
{
    unsigned char *der = NULL;
    int n = i2d_X509(certificate, &der);
    int r = n > 0 ? gt_pem_format("CERTIFICATE", gt_span(der, (size_t)n), ret) : -EIO;

    OPENSSL_free(der);
    return r;
}

static int create(EVP_PKEY *key, const struct certificate_facts *facts, char **ret_key,
                  char **ret_certificate)
{
    char serial[GT_CERTIFICATE_SERIAL_TEXT], *text = NULL;
    size_t n_key;
    X509 *root = begin(facts, key, serial);
    bool is_good = root && X509_set_issuer_name(root, X509_get_subject_name(root)) == 1 &&
                   add_extensions(root, root, root_extensions, GT_ARRAY_SIZE(root_extensions)) &&
                   sign(root, key);
    int r = is_good ? format(root, &text) : -EIO;

    if (r == 0)
        r = gt_pem_format_key(key, ret_key, &n_key);
    if (r == 0)
        *ret_certificate = gt_steal(&text);
    free(text);
    X509_free(root);
    return r;
}

int gt_issuer_create(const char *name, time_t now, unsigned days, char **ret_key,
                     char **ret_certificate)
{
    struct certificate_facts facts = {name, now - BACKDATED_S, now + (time_t)days * 86400};
    EVP_PKEY *key = EVP_EC_gen("P-256");
    int r = key ? create(key, &facts, ret_key, ret_certificate) : -EIO;

    EVP_PKEY_free(key);
    ERR_clear_error();
    return r;
}

/* --- the authority ---------------------------------------------------------------------------- */

static int check_authority(const struct gt_issuer *issuer, char *ret_why)
{
    if (X509_check_private_key(issuer->certificate, issuer->key) != 1)
        return fail(ret_why, "the private key does not belong to the certificate");
    if (X509_check_ca(issuer->certificate) != 1 ||
        !(X509_get_key_usage(issuer->certificate) & KU_KEY_CERT_SIGN))
        return fail(ret_why, "it is no certificate of an authority");
    return 0;
}

static int load_certificate(struct gt_span text, X509 **ret, char *ret_why)
{
    struct stack_st_X509 *certificates = NULL;
    char why[GT_PEM_WHY];
    int r = gt_pem_certificates(text, &certificates, why);

    if (r > 0)
        return fail(ret_why, why);
    if (r == 0) {
        *ret = sk_X509_value(certificates, 0);
        X509_up_ref(*ret);
    }
    gt_pem_certificates_free(certificates);
    return r;
}

int gt_issuer_load(struct gt_span certificate, struct gt_span key, struct gt_issuer **ret,
                   char ret_why[static GT_ISSUER_WHY])
{
    struct gt_issuer *issuer = calloc(1, sizeof(*issuer));
    char why[GT_PEM_WHY];

    if (!issuer)
        return -ENOMEM;
    int r = load_certificate(certificate, &issuer->certificate, ret_why);
    if (r == 0)
        r = gt_pem_key(key, &issuer->key, why);
    if (r > 0 && issuer->certificate)
        r = fail(ret_why, why);
    if (r == 0)
        r = check_authority(issuer, ret_why);
    ERR_clear_error();
    if (r != 0)
        gt_issuer_free(issuer);
    else
        *ret = issuer;
    return r;
}

struct gt_issuer *gt_issuer_free(struct gt_issuer *issuer)
{
    if (issuer) {
        X509_free(issuer->certificate);
        EVP_PKEY_free(issuer->key);
    }
    free(issuer);
    return NULL;
}

static int issue(const struct gt_issuer *issuer, EVP_PKEY *key,
                 const struct certificate_facts *facts, struct gt_issued *ret)
{
    struct gt_issued issued = {.not_after = facts->not_after};
    X509 *certificate = begin(facts, key, issued.serial);
    bool is_good =
        certificate &&
        X509_set_issuer_name(certificate, X509_get_subject_name(issuer->certificate)) == 1 &&
        add_extensions(certificate, issuer->certificate, client_extensions,
                       GT_ARRAY_SIZE(client_extensions)) &&
        sign(certificate, issuer->key);
    int r = is_good ? format(certificate, &issued.pem) : -EIO;

    X509_free(certificate);
    if (r == 0)
        *ret = issued;
    return r;
}

int gt_issuer_issue(const struct gt_issuer *issuer, struct gt_span request, const char *name,
                    time_t now, time_t not_after, struct gt_issued *ret,
                    char ret_why[static GT_ISSUER_WHY])
{
    struct certificate_facts facts = {name, now - BACKDATED_S, not_after};
    uint8_t fingerprint[GT_KEY_SIZE];
    time_t begins, ends;
    EVP_PKEY *key = NULL;

    if (!*name || strlen(name) > GT_CERTIFICATE_NAME_MAX)
        return fail(ret_why, "a certificate's name has at most 64 characters");
    if (!get_time(X509_get0_notBefore(issuer->certificate), &begins) ||
        !get_time(X509_get0_notAfter(issuer->certificate), &ends) || now < begins || now >= ends)
        return fail(ret_why, "the authority itself is not valid at this time");
    facts.not_before = GT_MAX(facts.not_before, begins);
    facts.not_after = GT_MIN(facts.not_after, ends);
    int r = gt_certificate_request_check(request, fingerprint);
    if (r == 0)
        r = gt_certificate_request_key(request, &key);
    if (r > 0)
        return fail(ret_why, "the request is damaged, not signed by its key, or its key is not of "
                             "ECDSA P-256");
    if (r == 0)
        r = issue(issuer, key, &facts, ret);
    EVP_PKEY_free(key);
    ERR_clear_error();
    return r;
}
