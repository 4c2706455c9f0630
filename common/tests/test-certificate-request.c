/* SPDX-License-Identifier: ISC */
/* Keys of certificates to come, their requests, and the other side that checks both. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <openssl/evp.h>

#include "gotthard/crypto/certificate-key.h"
#include "gotthard/crypto/pem.h"

struct fixture {
    struct gt_certificate_key *key;
    uint8_t der[GT_CERTIFICATE_REQUEST_MAX + 1];
    size_t n;
    uint8_t fingerprint[GT_KEY_SIZE];
};

static int setup(void **state)
{
    static struct fixture f;

    *state = &f;
    return gt_certificate_key_new(&f.key) ||
           gt_certificate_key_request(f.key, "a name", f.der, &f.n) ||
           gt_certificate_key_fingerprint(f.key, f.fingerprint);
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    f->key = gt_certificate_key_free(f->key);
    return 0;
}

static int check(struct fixture *f, size_t n)
{
    uint8_t fingerprint[GT_KEY_SIZE];

    return gt_certificate_request_check(gt_span(f->der, n), fingerprint);
}

static void test_request_has_the_fingerprint_of_its_key(void **state)
{
    struct fixture *f = *state;
    uint8_t fingerprint[GT_KEY_SIZE];

    assert_int_equal(gt_certificate_request_check(gt_span(f->der, f->n), fingerprint), 0);
    assert_memory_equal(fingerprint, f->fingerprint, GT_KEY_SIZE);
}

/* The request is signed by its key, so no bit of it can be changed. */
static void test_damaged_request_is_refused(void **state)
{
    struct fixture *f = *state;

    for (size_t i = 0; i < f->n; i++) {
        f->der[i] ^= 1;
        assert_int_equal(check(f, f->n), GT_CERTIFICATE_REQUEST_E_BAD);
        f->der[i] ^= 1;
    }
    for (size_t n = 0; n < f->n; n++)
        assert_int_equal(check(f, n), GT_CERTIFICATE_REQUEST_E_BAD);
    f->der[f->n] = 0;
    assert_int_equal(check(f, f->n + 1), GT_CERTIFICATE_REQUEST_E_BAD);
    assert_int_equal(check(f, f->n), 0);
}

static void make_statement(const char *context, const char *text, struct gt_statement *ret)
{
    struct gt_span part = gt_span_text(text);

    assert_int_equal(gt_statement_make(context, &part, 1, ret), 0);
}

static void test_signature_is_for_one_statement(void **state)
{
    struct fixture *f = *state;
    uint8_t signature[GT_CERTIFICATE_KEY_SIGNATURE_MAX];
    struct gt_statement statement, other;
    struct gt_span request = gt_span(f->der, f->n);
    size_t n = 0;

    make_statement("a context", "text", &statement);
    assert_int_equal(gt_certificate_key_sign(f->key, &statement, signature, &n), 0);
    struct gt_span span = gt_span(signature, n);
    assert_int_equal(gt_certificate_request_verify(request, &statement, span), 0);
    make_statement("a context", "another", &other);
    assert_int_equal(gt_certificate_request_verify(request, &other, span),
                     GT_CERTIFICATE_REQUEST_E_BAD);
    make_statement("another context", "text", &other);
    assert_int_equal(gt_certificate_request_verify(request, &other, span),
                     GT_CERTIFICATE_REQUEST_E_BAD);
    assert_int_equal(gt_certificate_request_verify(request, &statement, gt_span(signature, 0)),
                     GT_CERTIFICATE_REQUEST_E_BAD);
}

static void test_signature_of_another_key_is_refused(void **state)
{
    struct fixture *f = *state;
    uint8_t signature[GT_CERTIFICATE_KEY_SIGNATURE_MAX];
    struct gt_certificate_key *other = NULL;
    struct gt_statement statement;
    size_t n = 0;

    make_statement("a context", "text", &statement);
    assert_int_equal(gt_certificate_key_new(&other), 0);
    assert_int_equal(gt_certificate_key_sign(other, &statement, signature, &n), 0);
    assert_int_equal(
        gt_certificate_request_verify(gt_span(f->der, f->n), &statement, gt_span(signature, n)),
        GT_CERTIFICATE_REQUEST_E_BAD);
    gt_certificate_key_free(other);
}

/* A request for RSA is well-formed, and not accepted. */
static void test_key_of_another_kind_is_refused(void **state)
{
    EVP_PKEY *rsa = EVP_RSA_gen(2048);
    X509_REQ *request = X509_REQ_new();
    unsigned char *der = NULL;
    uint8_t fingerprint[GT_KEY_SIZE];

    assert_non_null(rsa);
    assert_int_equal(X509_REQ_set_pubkey(request, rsa), 1);
    assert_true(X509_REQ_sign(request, rsa, EVP_sha256()) > 0);
    int n = i2d_X509_REQ(request, &der);
    assert_true(n > 0 && n < GT_CERTIFICATE_REQUEST_MAX);
    assert_int_equal(gt_certificate_request_check(gt_span(der, (size_t)n), fingerprint),
                     GT_CERTIFICATE_REQUEST_E_BAD);
    OPENSSL_free(der);
    X509_REQ_free(request);
    EVP_PKEY_free(rsa);
}

static void test_private_key_is_written_as_pem(void **state)
{
    struct fixture *f = *state;
    char *pem = NULL, why[GT_PEM_WHY];
    EVP_PKEY *key = NULL, *of_request = NULL;
    size_t n = 0;

    assert_int_equal(gt_certificate_key_format(f->key, &pem, &n), 0);
    assert_int_equal(strlen(pem), n);
    assert_int_equal(gt_pem_key(gt_span(pem, n), &key, why), 0);
    assert_int_equal(gt_certificate_request_key(gt_span(f->der, f->n), &of_request), 0);
    assert_int_equal(EVP_PKEY_eq(key, of_request), 1);
    EVP_PKEY_free(key);
    EVP_PKEY_free(of_request);
    free(pem);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_request_has_the_fingerprint_of_its_key, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_damaged_request_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_signature_is_for_one_statement, setup, teardown),
        cmocka_unit_test_setup_teardown(test_signature_of_another_key_is_refused, setup, teardown),
        cmocka_unit_test(test_key_of_another_kind_is_refused),
        cmocka_unit_test_setup_teardown(test_private_key_is_written_as_pem, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
