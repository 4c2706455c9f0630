/* SPDX-License-Identifier: ISC */
/*
 * Files of certificates and keys as people and programs leave them: which are read, and which
 * reason the others get. A file that was cut off at any byte must never be read as a shorter one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <openssl/err.h>
#include <stdio.h>

#include "gotthard/crypto/pem.h"
#include "identities.h"

#define TEXT_MAX (64 * 1024)

static struct identity first, second;
static char key_encrypted[4096];

static int setup(void **state)
{
    identity_init(&first, "P-256", "first");
    identity_init(&second, "RSA-2048", "second");
    BIO *key_bio = BIO_new_mem_buf(second.key_pem, -1), *bio = BIO_new(BIO_s_mem());
    EVP_PKEY *key = PEM_read_bio_PrivateKey(key_bio, NULL, NULL, NULL);
    PEM_write_bio_PrivateKey(bio, key, EVP_aes_128_cbc(), (const unsigned char *)"secret", 6, NULL,
                             NULL);
    identity_write(bio, key_encrypted, sizeof(key_encrypted));
    EVP_PKEY_free(key);
    BIO_free(key_bio);
    return 0;
}

static int teardown(void **state)
{
    identity_deinit(&first);
    identity_deinit(&second);
    return 0;
}

/* Concatenates up to four texts. */
static const char *join(const char *a, const char *b, const char *c, const char *d)
{
    static char text[TEXT_MAX];

    stpcpy(stpcpy(stpcpy(stpcpy(text, a), b), c), d);
    return text;
}

/* Returns the number of certificates, or 0 with the reason. */
static int count(struct gt_span text, char *ret_why)
{
    struct stack_st_X509 *certificates = NULL;
    int n = 0;

    int r = gt_pem_certificates(text, &certificates, ret_why);
    assert_int_equal(ERR_peek_error(), 0);
    assert_true((r == 0) == (certificates != NULL));
    if (r == 0)
        n = sk_X509_num(certificates);
    else
        assert_int_equal(r, GT_PEM_E_BAD);
    gt_pem_certificates_free(certificates);
    return n;
}

static int read_key(const char *text, char *ret_why)
{
    EVP_PKEY *key = NULL;

    int r = gt_pem_key(gt_span_text(text), &key, ret_why);
    assert_int_equal(ERR_peek_error(), 0);
    assert_true((r == 0) == (key != NULL));
    EVP_PKEY_free(key);
    return r;
}

/* Replaces each LF by @end. */
static void change_lines(const char *text, const char *end, char *ret)
{
    for (; *text; text++) {
        if (*text == '\n')
            ret = stpcpy(ret, end);
        else
            *ret++ = *text;
    }
    *ret = 0;
}

static void test_pem_reads_certificates(void **state)
{
    const char *one = first.certificate_pem, *two = second.certificate_pem;
    char text[TEXT_MAX], why[GT_PEM_WHY];

    assert_int_equal(count(gt_span_text(join(one, two, "", "")), why), 2);
    change_lines(join(one, two, "", ""), "\r\n", text);
    assert_int_equal(count(gt_span_text(text), why), 2);
    assert_int_equal(count(gt_span_text(join("\xef\xbb\xbf", one, "", "")), why), 1);
    assert_int_equal(count(gt_span_text(join("\n# --- ours ---\n", one, "# theirs\n", two)), why),
                     2);
    assert_int_equal(count(gt_span_text(join(second.key_pem, one, two, "more text\n")), why), 2);
    assert_int_equal(count(gt_span(one, strlen(one) - 1), why), 1); /* no final newline */
}

static void test_pem_names_what_a_file_is_instead(void **state)
{
    char cr[TEXT_MAX], why[GT_PEM_WHY];

    change_lines(first.certificate_pem, "\r", cr);
    const struct {
        struct gt_span text;
        const char *why;
    } cases[] = {
        {gt_span("", 0), "empty"},
        {gt_span_text(" \r\n\n"), "empty"},
        {gt_span_text("<!DOCTYPE html><html>"), "web page"},
        {gt_span("\x30\x82\x01\x0a\x00\x01", 6), "DER"},
        {gt_span("\xff\xfe-\0-\0", 6), "UTF-16"},
        {gt_span("abc\0def", 7), "binary"},
        {gt_span_text(cr), "CR alone"},
        {gt_span_text(first.key_pem), "contains PRIVATE KEY, expected CERTIFICATE"},
        {gt_span_text("-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n"
                      "-----END CERTIFICATE REQUEST-----\n"),
         "contains CERTIFICATE REQUEST"},
        {gt_span_text("MIIB\n"), "contains no CERTIFICATE"},
        {gt_span_text("-----BEGIN CERTIFICATE-----\nnot base64!\n-----END CERTIFICATE-----\n"),
         "line 1: the certificate is damaged"},
        {gt_span_text("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"),
         "line 1: the certificate is damaged"},
        {gt_span_text("\xef\xbb\xbf<html></html>"), "web page"},
        {gt_span_text("ca: |\n  -----BEGIN CERTIFICATE-----\n  AAAA\n"),
         "line 2: text or blanks before -----BEGIN"},
        {gt_span_text("-----BEGIN CERTIFICATE----\nAAAA\n-----END CERTIFICATE-----\n"),
         "line 1: a damaged"},
    };
    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        assert_int_equal(count(cases[i].text, why), 0);
        if (!strstr(why, cases[i].why))
            fail_msg("case %zu: %s", i, why);
    }
}

static void test_pem_cut_off_anywhere_is_rejected(void **state)
{
    const char *text = join(first.certificate_pem, second.certificate_pem, "", "");
    size_t n_first = strlen(first.certificate_pem);
    char why[GT_PEM_WHY];

    for (size_t n = 1; n < strlen(text) - 1; n++) {
        bool is_whole = n == n_first || n == n_first - 1; /* another file, not a damaged one */

        assert_int_equal(count(gt_span(text, n), why), is_whole);
    }
}

static void test_pem_with_a_damaged_byte_is_rejected(void **state)
{
    char text[TEXT_MAX], why[GT_PEM_WHY];

    strcpy(text, join(first.certificate_pem, second.certificate_pem, "", ""));
    for (size_t i = 0; i < strlen(first.certificate_pem); i++) {
        char was = text[i];

        text[i] = '!';
        assert_int_equal(count(gt_span_text(text), why), 0);
        text[i] = was;
    }
}

static void test_pem_reads_keys(void **state)
{
    static const char parameters[] = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n"
                                     "-----END EC PARAMETERS-----\n";
    char why[GT_PEM_WHY];

    assert_int_equal(read_key(first.key_pem, why), 0);
    assert_int_equal(read_key(join(parameters, first.certificate_pem, first.key_pem, ""), why), 0);
}

static void test_pem_names_the_fault_of_a_key(void **state)
{
    const struct {
        const char *text, *why;
    } cases[] = {
        {"", "empty"},
        {first.certificate_pem, "contains CERTIFICATE, expected PRIVATE KEY"},
        {key_encrypted, "line 1: the key is encrypted"},
        {"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n"
         "-----END RSA PRIVATE KEY-----\n",
         "line 1: the key is encrypted"},
        {"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
         "OpenSSH"},
        {"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
         "line 1: the private key is damaged"},
        {"-----BEGIN PRIVATE KEY-----\nAAAA\n", "line 1: the block PRIVATE KEY is cut off"},
        {"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
         "contains PUBLIC KEY, expected PRIVATE KEY"},
        {"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
         "-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n",
         "line 4: a second private key"},
    };
    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        char why[GT_PEM_WHY] = "";

        assert_int_equal(read_key(cases[i].text, why), GT_PEM_E_BAD);
        if (!strstr(why, cases[i].why))
            fail_msg("case %zu: %s", i, why);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pem_reads_certificates),
        cmocka_unit_test(test_pem_names_what_a_file_is_instead),
        cmocka_unit_test(test_pem_cut_off_anywhere_is_rejected),
        cmocka_unit_test(test_pem_with_a_damaged_byte_is_rejected),
        cmocka_unit_test(test_pem_reads_keys),
        cmocka_unit_test(test_pem_names_the_fault_of_a_key),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
