/* SPDX-License-Identifier: ISC */
/*
 * The fleet's own certificate authority: what it issues verifies as a broker verifies it, has the
 * caller's name and time, and only the key of the request.
 */
#include "gotthard/crypto/certificate-issuer.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "gotthard/crypto/pem.h"
#include "identities.h"

#define NOW 1800000000 /* 2027-01-15 */
#define DAY 86400

static char *root_key, *root_certificate;
static struct gt_issuer *issuer;

static int setup(void **state)
{
    char why[GT_ISSUER_WHY];

    assert_int_equal(gt_issuer_create("authority", NOW, 7300, &root_key, &root_certificate), 0);
    assert_int_equal(
        gt_issuer_load(gt_span_text(root_certificate), gt_span_text(root_key), &issuer, why), 0);
    return 0;
}

static int teardown(void **state)
{
    issuer = gt_issuer_free(issuer);
    free(root_key);
    free(root_certificate);
    return 0;
}

/* A request in DER, whose subject is @name. @signer: another key that signs it, or NULL. */
struct request {
    uint8_t der[8192];
    size_t n;
};

static void make_request(EVP_PKEY *key, EVP_PKEY *signer, struct request *ret)
{
    X509_REQ *request = X509_REQ_new();
    unsigned char *at = ret->der;

    X509_NAME_add_entry_by_txt(X509_REQ_get_subject_name(request), "CN", MBSTRING_ASC,
                               (const unsigned char *)"operator mallory", -1, -1, 0);
    X509_REQ_set_pubkey(request, key);
    bool is_edwards = EVP_PKEY_is_a(signer, "ED25519") || EVP_PKEY_is_a(signer, "ED448");
    assert_true(X509_REQ_sign(request, signer, is_edwards ? NULL : EVP_sha256()) > 0);
    int n = i2d_X509_REQ(request, &at);
    assert_in_range(n, 1, sizeof(ret->der));
    ret->n = (size_t)n;
    X509_REQ_free(request);
}

static void request_of_kind(const char *kind, struct request *ret)
{
    EVP_PKEY *key = identity_key(kind);

    make_request(key, key, ret);
    EVP_PKEY_free(key);
}

static X509 *parse(const char *pem)
{
    BIO *bio = BIO_new_mem_buf(pem, -1);
    X509 *certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL);

    BIO_free(bio);
    assert_non_null(certificate);
    return certificate;
}

/* Returns X509_V_OK or the error of a broker that demands a certificate of clients. */
static int verify(X509 *certificate, time_t at, int purpose)
{
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *context = X509_STORE_CTX_new();
    X509 *root = parse(root_certificate);

    X509_STORE_add_cert(store, root);
    X509_STORE_CTX_init(context, store, certificate, NULL);
    X509_STORE_CTX_set_purpose(context, purpose);
    X509_STORE_CTX_set_time(context, 0, at);
    X509_STORE_CTX_set_flags(context, X509_V_FLAG_X509_STRICT);
    int error = X509_verify_cert(context) == 1 ? X509_V_OK : X509_STORE_CTX_get_error(context);
    X509_STORE_CTX_free(context);
    X509_STORE_free(store);
    X509_free(root);
    return error;
}

static void test_issued_certificate_is_of_the_key_and_the_name_of_the_caller(void **state)
{
    uint8_t of_request[GT_KEY_SIZE], of_certificate[GT_KEY_SIZE];
    char why[GT_ISSUER_WHY], name[80];
    struct gt_issued issued;
    struct request request;

    request_of_kind("P-256", &request);
    struct gt_span der = gt_span(request.der, request.n);
    assert_int_equal(gt_issuer_issue(issuer, der, "GatewayOli", NOW, NOW + 100 * DAY, &issued, why),
                     0);
    assert_int_equal(ERR_peek_error(), 0);
    assert_int_equal(gt_certificate_request_check(der, of_request), 0);
    assert_int_equal(gt_certificate_fingerprint(gt_span_text(issued.pem), of_certificate, why), 0);
    assert_memory_equal(of_request, of_certificate, GT_KEY_SIZE);
    X509 *certificate = parse(issued.pem);
    X509_NAME_get_text_by_NID(X509_get_subject_name(certificate), NID_commonName, name,
                              sizeof(name));
    assert_string_equal(name, "GatewayOli");
    assert_int_equal(X509_NAME_entry_count(X509_get_subject_name(certificate)), 1);
    assert_int_equal(verify(certificate, NOW, X509_PURPOSE_SSL_CLIENT), X509_V_OK);
    assert_int_not_equal(verify(certificate, NOW, X509_PURPOSE_SSL_SERVER), X509_V_OK);
    assert_int_equal(X509_check_ca(certificate), 0);
    X509_free(certificate);
    free(issued.pem);
}

static void test_issued_certificate_is_valid_from_an_hour_before_until_its_end(void **state)
{
    char why[GT_ISSUER_WHY];
    struct gt_issued issued;
    struct request request;

    request_of_kind("P-256", &request);
    assert_int_equal(gt_issuer_issue(issuer, gt_span(request.der, request.n), "a", NOW + DAY,
                                     NOW + 10 * DAY, &issued, why),
                     0);
    X509 *certificate = parse(issued.pem);
    assert_int_equal(issued.not_after, NOW + 10 * DAY);
    assert_int_equal(verify(certificate, NOW + DAY - 3601, X509_PURPOSE_SSL_CLIENT),
                     X509_V_ERR_CERT_NOT_YET_VALID);
    assert_int_equal(verify(certificate, NOW + DAY - 3600, X509_PURPOSE_SSL_CLIENT), X509_V_OK);
    assert_int_equal(verify(certificate, NOW + 10 * DAY - 1, X509_PURPOSE_SSL_CLIENT), X509_V_OK);
    assert_int_equal(verify(certificate, NOW + 10 * DAY + 1, X509_PURPOSE_SSL_CLIENT),
                     X509_V_ERR_CERT_HAS_EXPIRED);
    X509_free(certificate);
    free(issued.pem);
}

static void test_issued_certificate_ends_with_the_authority(void **state)
{
    char why[GT_ISSUER_WHY];
    struct gt_issued issued;
    struct request request;
    time_t end = NOW + 7300l * DAY;

    request_of_kind("P-256", &request);
    struct gt_span der = gt_span(request.der, request.n);
    assert_int_equal(gt_issuer_issue(issuer, der, "a", NOW, end + DAY, &issued, why), 0);
    assert_int_equal(issued.not_after, end);
    free(issued.pem);
    assert_int_equal(gt_issuer_issue(issuer, der, "a", end, end + DAY, &issued, why),
                     GT_ISSUER_E_BAD);
    assert_int_equal(gt_issuer_issue(issuer, der, "a", NOW - 2 * 3600, end, &issued, why),
                     GT_ISSUER_E_BAD);
    assert_non_null(strstr(why, "not valid at this time"));
}

static void test_issued_serials_differ(void **state)
{
    char why[GT_ISSUER_WHY], before[GT_CERTIFICATE_SERIAL_TEXT] = "";
    struct request request;

    request_of_kind("P-256", &request);
    for (int i = 0; i < 16; i++) {
        struct gt_issued issued;

        assert_int_equal(gt_issuer_issue(issuer, gt_span(request.der, request.n), "a", NOW,
                                         NOW + DAY, &issued, why),
                         0);
        assert_int_equal(strlen(issued.serial), 32);
        assert_string_not_equal(issued.serial, before);
        X509 *certificate = parse(issued.pem);
        BIGNUM *number = ASN1_INTEGER_to_BN(X509_get0_serialNumber(certificate), NULL);
        char *text = BN_bn2hex(number);
        assert_false(BN_is_negative(number));
        assert_string_equal(text, issued.serial);
        memcpy(before, issued.serial, sizeof(before));
        OPENSSL_free(text);
        BN_free(number);
        X509_free(certificate);
        free(issued.pem);
    }
}

static void assert_refused(const struct request *request, size_t n)
{
    char why[GT_ISSUER_WHY] = "";
    struct gt_issued issued;
    struct gt_span der = gt_span(request->der, n);

    assert_int_equal(gt_issuer_issue(issuer, der, "a", NOW, NOW + DAY, &issued, why),
                     GT_ISSUER_E_BAD);
    assert_non_null(strstr(why, "the request"));
    assert_int_equal(ERR_peek_error(), 0);
}

/* gt_certificate_request_check() decides: test-certificate-request.c has the others. */
static void test_request_that_is_not_signed_by_its_key_of_p256_is_refused(void **state)
{
    EVP_PKEY *key = identity_key("P-256"), *other = identity_key("P-256");
    struct request request;

    make_request(key, other, &request);
    assert_refused(&request, request.n);
    make_request(key, key, &request);
    assert_refused(&request, request.n - 1);
    request_of_kind("RSA-2048", &request);
    assert_refused(&request, request.n);
    EVP_PKEY_free(key);
    EVP_PKEY_free(other);
}

static void test_name_has_64_characters_at_most(void **state)
{
    char why[GT_ISSUER_WHY], name[66];
    struct gt_issued issued;
    struct request request;

    request_of_kind("P-256", &request);
    struct gt_span der = gt_span(request.der, request.n);
    memset(name, 'n', sizeof(name));
    name[65] = 0;
    assert_int_equal(gt_issuer_issue(issuer, der, name, NOW, NOW + DAY, &issued, why),
                     GT_ISSUER_E_BAD);
    assert_non_null(strstr(why, "64"));
    assert_int_equal(gt_issuer_issue(issuer, der, "", NOW, NOW + DAY, &issued, why),
                     GT_ISSUER_E_BAD);
    name[64] = 0;
    assert_int_equal(gt_issuer_issue(issuer, der, name, NOW, NOW + DAY, &issued, why), 0);
    free(issued.pem);
}

static void assert_not_loaded(const char *certificate, const char *key, const char *expected)
{
    char why[GT_ISSUER_WHY] = "";
    struct gt_issuer *loaded = NULL;

    assert_int_equal(gt_issuer_load(gt_span_text(certificate), gt_span_text(key), &loaded, why),
                     GT_ISSUER_E_BAD);
    assert_null(loaded);
    assert_non_null(strstr(why, expected));
}

static void test_authority_that_cannot_sign_is_not_loaded(void **state)
{
    struct identity client;
    char why[GT_ISSUER_WHY];
    struct gt_issued issued;
    struct request request;

    identity_init(&client, "P-256", "client");
    assert_not_loaded(root_certificate, client.key_pem, "does not belong");
    request_of_kind("P-256", &request);
    assert_int_equal(
        gt_issuer_issue(issuer, gt_span(request.der, request.n), "a", NOW, NOW + DAY, &issued, why),
        0);
    assert_not_loaded(issued.pem, root_key, "does not belong");
    assert_not_loaded("", root_key, "empty");
    assert_not_loaded(root_certificate, root_certificate, "contains CERTIFICATE");
    free(issued.pem);
    identity_deinit(&client);
}

static void test_certificate_of_a_client_is_no_authority(void **state)
{
    char why[GT_ISSUER_WHY], *key_pem = NULL;
    size_t n_key_pem;
    EVP_PKEY *key = identity_key("P-256");
    struct gt_issued issued;
    struct request request;

    make_request(key, key, &request);
    assert_int_equal(gt_pem_format_key(key, &key_pem, &n_key_pem), 0);
    assert_int_equal(
        gt_issuer_issue(issuer, gt_span(request.der, request.n), "a", NOW, NOW + DAY, &issued, why),
        0);
    assert_not_loaded(issued.pem, key_pem, "no certificate of an authority");
    free(issued.pem);
    free(key_pem);
    EVP_PKEY_free(key);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_issued_certificate_is_of_the_key_and_the_name_of_the_caller),
        cmocka_unit_test(test_issued_certificate_is_valid_from_an_hour_before_until_its_end),
        cmocka_unit_test(test_issued_certificate_ends_with_the_authority),
        cmocka_unit_test(test_issued_serials_differ),
        cmocka_unit_test(test_request_that_is_not_signed_by_its_key_of_p256_is_refused),
        cmocka_unit_test(test_name_has_64_characters_at_most),
        cmocka_unit_test(test_authority_that_cannot_sign_is_not_loaded),
        cmocka_unit_test(test_certificate_of_a_client_is_no_authority),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
