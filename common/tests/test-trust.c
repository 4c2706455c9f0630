/* SPDX-License-Identifier: ISC */
/*
 * Signatures by each kind of key, accepted or not. They must not verify with another key, context,
 * algorithm or statement. Then the policies over them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <openssl/err.h>

#include "identities.h"
#include "vectors.h"

#define NOW 1700000000 /* 2023-11-14 22:13:20 UTC */

static const char *kinds[] = {"P-256", "P-384", "RSA-2048", "RSA-3072", "ED25519"};
static const uint16_t sigalgs[] = {0x0403, 0x0503, 0x0804, 0x0804, 0x0807};
static struct identity ids[GT_ARRAY_SIZE(kinds)];
static const struct gt_span parts[] = {{(const uint8_t *)"one", 3}, {(const uint8_t *)"two", 3}};

/* A signed statement, and the bytes that its proof points to. */
struct signed_by {
    uint8_t signature[GT_SIGNATURE_MAX];
    struct gt_proof proof;
};

static void sign(const struct identity *identity, struct signed_by *ret)
{
    size_t n = 0;

    assert_int_equal(
        gt_signer_sign(identity->signer, GT_SIGNATURE_REQ, parts, 2, ret->signature, &n), 0);
    ret->proof =
        (struct gt_proof){gt_signer_certificate(identity->signer),
                          gt_signer_algorithm(identity->signer), gt_span(ret->signature, n)};
}

static int verify(const struct gt_proof *proof)
{
    uint8_t fingerprint[GT_KEY_SIZE];
    int r = gt_signature_verify(proof, GT_SIGNATURE_REQ, parts, 2, fingerprint);

    assert_int_equal(ERR_peek_error(), 0); /* the TLS code reads this thread's queue */
    return r;
}

static void test_signature_verifies_for_each_kind_of_key(void **state)
{
    static const struct gt_span joined = {(const uint8_t *)"onetwo", 6};

    for (size_t i = 0; i < GT_ARRAY_SIZE(kinds); i++) {
        struct signed_by s;
        uint8_t fingerprint[GT_KEY_SIZE];

        sign(&ids[i], &s);
        assert_int_equal(s.proof.sigalg, sigalgs[i]);
        assert_int_equal(gt_signature_verify(&s.proof, GT_SIGNATURE_REQ, &joined, 1, fingerprint),
                         0);
        assert_memory_equal(fingerprint, ids[i].fingerprint, GT_KEY_SIZE);
        memset(fingerprint, 0, sizeof(fingerprint));
        assert_true(gt_proof_fingerprint(&s.proof, fingerprint));
        assert_memory_equal(fingerprint, ids[i].fingerprint, GT_KEY_SIZE);
        assert_false(gt_proof_fingerprint(&(struct gt_proof){.sigalg = 0}, fingerprint));
    }
}

static void test_verify_rejects_other_context_or_statement(void **state)
{
    static const struct gt_span other = {(const uint8_t *)"onetwX", 6};

    for (size_t i = 0; i < GT_ARRAY_SIZE(kinds); i++) {
        struct signed_by s;
        uint8_t fingerprint[GT_KEY_SIZE];

        sign(&ids[i], &s);
        assert_int_equal(gt_signature_verify(&s.proof, GT_SIGNATURE_ACK, parts, 2, fingerprint),
                         GT_TRUST_E_DENIED);
        assert_int_equal(gt_signature_verify(&s.proof, GT_SIGNATURE_CLOSE, parts, 2, fingerprint),
                         GT_TRUST_E_DENIED);
        assert_int_equal(gt_signature_verify(&s.proof, GT_SIGNATURE_REQ, &other, 1, fingerprint),
                         GT_TRUST_E_DENIED);
    }
}

/* A signature with the certificate of another key, and each algorithm with each key. */
static void test_verify_rejects_other_key_or_algorithm(void **state)
{
    static const uint16_t all[] = {0,      0x0401, 0x0403, 0x0501, 0x0503, 0x0603,
                                   0x0804, 0x0805, 0x0807, 0x0808, 0x0809, 0x0201};

    for (size_t i = 0; i < GT_ARRAY_SIZE(kinds); i++) {
        for (size_t j = 0; j < GT_ARRAY_SIZE(kinds); j++) {
            struct signed_by s;

            sign(&ids[i], &s);
            s.proof.certificate = gt_signer_certificate(ids[j].signer);
            assert_int_equal(verify(&s.proof), i == j ? 0 : GT_TRUST_E_DENIED);
            s.proof.sigalg = sigalgs[j];
            assert_int_equal(verify(&s.proof), i == j ? 0 : GT_TRUST_E_DENIED);
        }
        for (size_t j = 0; j < GT_ARRAY_SIZE(all); j++) {
            struct signed_by s;

            sign(&ids[i], &s);
            s.proof.sigalg = all[j];
            assert_int_equal(verify(&s.proof), all[j] == sigalgs[i] ? 0 : GT_TRUST_E_DENIED);
        }
    }
}

static void test_verify_rejects_each_flipped_bit(void **state)
{
    for (size_t i = 0; i < GT_ARRAY_SIZE(kinds); i++) {
        struct signed_by s;

        sign(&ids[i], &s);
        size_t n = s.proof.signature.n;
        for (size_t bit = 0; bit < 8 * n; bit += 7) {
            s.signature[bit / 8] ^= (uint8_t)(1 << bit % 8);
            assert_int_equal(verify(&s.proof), GT_TRUST_E_DENIED);
            s.signature[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        for (s.proof.signature.n = 0; s.proof.signature.n < n; s.proof.signature.n++)
            assert_int_equal(verify(&s.proof), GT_TRUST_E_DENIED);
        s.signature[n] = 0;
        s.proof.signature.n = n + 1;
        assert_int_equal(verify(&s.proof), GT_TRUST_E_DENIED);
        s.proof.signature.n = n;
        assert_int_equal(verify(&s.proof), 0);
    }
}

/* r = s = 0, a length in long form, and a number with a leading zero: not DER, or not a signature.
 */
static void test_verify_rejects_non_der_ecdsa_signatures(void **state)
{
    static const uint8_t zeros[] = {0x30, 6, 2, 1, 0, 2, 1, 0};
    struct signed_by s;
    uint8_t slack[GT_SIGNATURE_MAX];

    sign(&ids[0], &s);
    struct gt_span good = s.proof.signature;
    s.proof.signature = gt_span(zeros, sizeof(zeros));
    assert_int_equal(verify(&s.proof), GT_TRUST_E_DENIED);
    slack[0] = 0x30; /* 30 n ... -> 30 81 n ... */
    slack[1] = 0x81;
    memcpy(slack + 2, good.data + 1, good.n - 1);
    s.proof.signature = gt_span(slack, good.n + 1);
    assert_int_equal(verify(&s.proof), GT_TRUST_E_DENIED);
    slack[1] = (uint8_t)(good.data[1] + 1); /* 02 n r -> 02 n+1 00 r */
    slack[2] = 2;
    slack[3] = (uint8_t)(good.data[3] + 1);
    slack[4] = 0;
    memcpy(slack + 5, good.data + 4, good.n - 4);
    s.proof.signature = gt_span(slack, good.n + 1);
    assert_int_equal(verify(&s.proof), GT_TRUST_E_DENIED);
}

static void test_verify_rejects_malformed_certificates(void **state)
{
    static uint8_t bytes[GT_CERTIFICATE_MAX + 16];
    struct signed_by s;

    sign(&ids[0], &s);
    struct gt_span good = s.proof.certificate;
    memcpy(bytes, good.data, good.n);
    s.proof.certificate = gt_span(bytes, good.n);
    assert_int_equal(verify(&s.proof), 0);
    s.proof.certificate.n = good.n + 1; /* trailing bytes */
    assert_int_equal(verify(&s.proof), GT_TRUST_E_DENIED);
    memcpy(bytes + good.n, good.data, good.n); /* two certificates */
    s.proof.certificate.n = 2 * good.n;
    assert_int_equal(verify(&s.proof), GT_TRUST_E_DENIED);
    s.proof.certificate.n = GT_CERTIFICATE_MAX + 1;
    assert_int_equal(verify(&s.proof), GT_TRUST_E_DENIED);
    s.proof.certificate = gt_span_text(ids[0].certificate_pem); /* PEM */
    assert_int_equal(verify(&s.proof), GT_TRUST_E_DENIED);
    for (size_t n = 0; n < good.n; n++) {
        s.proof.certificate = gt_span(bytes, n);
        assert_int_equal(verify(&s.proof), GT_TRUST_E_DENIED);
    }
}

static void test_signer_rejects_unsuited_keys(void **state)
{
    static const char *unsuited[] = {"RSA-1024", "P-521", "P-224", "ED448"};

    for (size_t i = 0; i < GT_ARRAY_SIZE(unsuited); i++) {
        struct identity identity;

        identity_init(&identity, unsuited[i], "x");
        assert_int_equal(identity.r, GT_TRUST_E_UNSUITED);
        assert_null(identity.signer);
    }
}

/* An unauthenticated peer can sign with any kind of key; only accepted kinds are verified. */
static void test_verify_rejects_unsuited_keys(void **state)
{
    static const struct {
        const char *kind;
        uint16_t sigalg;
    } cases[] = {{"RSA-1024", 0x0804},
                 {"RSA-slow", 0x0804},
                 {"P-521", 0x0603},
                 {"P-521", 0x0403},
                 {"P-224", 0x0403}};
    uint8_t statement[64 + 30 + 32] = {0}, signature[1024];
    struct gt_span joined = gt_span_text("onetwo");
    memset(statement, ' ', 64);
    memcpy(statement + 64, "Gotthard v1, operator request", 30);
    assert_int_equal(gt_sha256(&joined, 1, statement + 94), 0);
    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        EVP_PKEY *key = identity_key(cases[i].kind);
        X509 *certificate = identity_certificate(key, "x");
        EVP_MD_CTX *md = EVP_MD_CTX_new();
        EVP_PKEY_CTX *pkey;
        unsigned char *der = NULL;
        size_t n = sizeof(signature);
        int n_der = i2d_X509(certificate, &der);

        assert_int_equal(EVP_DigestSignInit(md, &pkey, EVP_sha256(), NULL, key), 1);
        if (cases[i].sigalg == 0x0804) {
            EVP_PKEY_CTX_set_rsa_padding(pkey, RSA_PKCS1_PSS_PADDING);
            EVP_PKEY_CTX_set_rsa_pss_saltlen(pkey, RSA_PSS_SALTLEN_DIGEST);
        }
        assert_int_equal(EVP_DigestSign(md, signature, &n, statement, 126), 1);
        struct gt_proof proof = {gt_span(der, (size_t)n_der), cases[i].sigalg,
                                 gt_span(signature, n)};
        assert_int_equal(verify(&proof), GT_TRUST_E_DENIED);
        OPENSSL_free(der);
        EVP_MD_CTX_free(md);
        X509_free(certificate);
        EVP_PKEY_free(key);
    }
}

/* --- the signer ----------------------------------------------------------------------------- */

static void test_signer_rejects_bad_pem(void **state)
{
    static const char encrypted[] = "-----BEGIN ENCRYPTED PRIVATE KEY-----\n"
                                    "MIGbMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAg=\n"
                                    "-----END ENCRYPTED PRIVATE KEY-----\n";
    const char *certificate = ids[0].certificate_pem, *key = ids[0].key_pem;

    const struct {
        const char *certificate, *key;
        int r;
    } cases[] = {
        {"", key, GT_TRUST_E_SYNTAX},
        {certificate, "", GT_TRUST_E_SYNTAX},
        {key, certificate, GT_TRUST_E_SYNTAX},
        {"not PEM at all\n", key, GT_TRUST_E_SYNTAX},
        {certificate, encrypted, GT_TRUST_E_SYNTAX},
        {certificate, ids[1].key_pem, GT_TRUST_E_MISMATCH},
        {certificate, ids[4].key_pem, GT_TRUST_E_MISMATCH},
    };
    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        struct gt_signer *signer = NULL;
        char why[GT_TRUST_WHY] = "";

        assert_int_equal(gt_signer_new(gt_span_text(cases[i].certificate),
                                       gt_span_text(cases[i].key), &signer, why),
                         cases[i].r);
        assert_null(signer);
        assert_true(*why);
        assert_non_null(gt_trust_strerror(cases[i].r));
        assert_int_equal(ERR_peek_error(), 0);
    }
    assert_int_equal(gt_signer_certificate(NULL).n, 0);
    assert_int_equal(gt_signer_algorithm(NULL), 0);
    assert_null(gt_signer_free(NULL));
}

/* --- policies ------------------------------------------------------------------------------- */

static int check(const struct gt_trust *trust, bool is_operator, const char *name, time_t now,
                 const struct gt_proof *proof, const struct gt_pin **ret_pin)
{
    return gt_trust_check(trust, is_operator, name, now, proof, GT_SIGNATURE_REQ, parts, 2,
                          ret_pin);
}

static void parse_pins(const char *text, struct gt_trust *ret)
{
    size_t line;
    const char *why;

    assert_int_equal(gt_trust_parse_pins(gt_span_text(text), ret, &line, &why), 0);
}

static void test_psk_accepts_unsigned_and_rejects_bad_signatures(void **state)
{
    struct gt_trust trust;
    struct signed_by s;
    const struct gt_pin *pin = (const struct gt_pin *)&trust;
    struct gt_proof none = {0};

    gt_trust_init_psk(&trust);
    assert_int_equal(check(&trust, true, "alice", NOW, &none, &pin), 0);
    assert_null(pin);
    assert_true(gt_pin_is_admin(NULL));
    assert_true(gt_pin_allows_service(NULL, "anything"));
    sign(&ids[0], &s);
    assert_int_equal(check(&trust, true, "alice", NOW, &s.proof, &pin), 0);
    s.signature[8] ^= 1;
    assert_int_equal(check(&trust, true, "alice", NOW, &s.proof, &pin), GT_TRUST_E_DENIED);
    /* an incomplete proof is invalid, not absent */
    struct gt_proof half[] = {
        {.certificate = s.proof.certificate}, {.sigalg = 0x0403}, {.signature = s.proof.signature}};
    for (size_t i = 0; i < GT_ARRAY_SIZE(half); i++)
        assert_int_equal(check(&trust, true, "alice", NOW, &half[i], &pin), GT_TRUST_E_DENIED);
    gt_trust_deinit(&trust);
    assert_int_equal(check(&trust, true, "alice", NOW, &none, &pin), GT_TRUST_E_DENIED);
}

static void test_pin_requires_name_role_and_key(void **state)
{
    char text[1024];
    struct gt_trust trust;
    const struct gt_pin *pin = NULL;
    struct gt_proof none = {0};

    snprintf(text, sizeof(text),
             "alice %s services=ssh,web\nboss %s role=admin\nGatewayOli %s role=device\n"
             "gone %s until=2023-11-13\nlast %s until=2023-11-14\nalice %s\n",
             ids[0].fingerprint_hex, ids[1].fingerprint_hex, ids[2].fingerprint_hex,
             ids[3].fingerprint_hex, ids[3].fingerprint_hex, ids[4].fingerprint_hex);
    parse_pins(text, &trust);
    static const struct {
        size_t id;
        bool is_operator;
        const char *name;
        bool is_good;
    } cases[] = {
        {0, true, "alice", true},  {4, true, "alice", true},       {1, true, "alice", false},
        {1, true, "boss", true},   {0, true, "boss", false},       {0, false, "alice", false},
        {1, false, "boss", false}, {2, false, "GatewayOli", true}, {2, true, "GatewayOli", false},
        {3, true, "gone", false},  {3, true, "last", true},        {0, true, "Alice", false},
        {0, true, "alic", false},  {0, true, "alice2", false},     {0, true, "", false},
    };
    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        struct signed_by s;

        sign(&ids[cases[i].id], &s);
        assert_int_equal(check(&trust, cases[i].is_operator, cases[i].name, NOW, &s.proof, &pin),
                         cases[i].is_good ? 0 : GT_TRUST_E_DENIED);
        if (cases[i].is_good)
            assert_string_equal(pin->name, cases[i].name);
        assert_int_equal(check(&trust, cases[i].is_operator, cases[i].name, NOW, &none, &pin),
                         GT_TRUST_E_DENIED);
        s.signature[8] ^= 1;
        assert_int_equal(check(&trust, cases[i].is_operator, cases[i].name, NOW, &s.proof, &pin),
                         GT_TRUST_E_DENIED);
    }
    gt_trust_deinit(&trust);
}

/* until= is the last valid day: valid in its last second, invalid in the next one. */
static double cpu_s(void)
{
    struct timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* The owner of a key without a pin must not choose how long the check takes. */
static void test_key_without_pin_is_not_verified(void **state)
{
    const struct gt_pin *pin;
    struct signed_by s;
    struct gt_trust trust;

    sign(&ids[1], &s);
    parse_pins("", &trust);
    double began = cpu_s();
    for (unsigned i = 0; i < 50; i++)
        assert_int_equal(verify(&s.proof), 0);
    double verified = cpu_s() - began;
    began = cpu_s();
    for (unsigned i = 0; i < 50; i++)
        assert_int_equal(check(&trust, true, "alice", NOW, &s.proof, &pin), GT_TRUST_E_DENIED);
    assert_true(cpu_s() - began < verified * 3 / 4); /* both read the certificate */
    gt_trust_deinit(&trust);
}

static void test_pin_expires_after_its_last_day(void **state)
{
    char text[256];
    struct gt_trust trust;
    struct signed_by s;
    const struct gt_pin *pin;
    const time_t midnight = 1700006400; /* 2023-11-15 00:00:00 UTC */

    snprintf(text, sizeof(text), "alice %s until=2023-11-14", ids[0].fingerprint_hex);
    parse_pins(text, &trust);
    sign(&ids[0], &s);
    assert_int_equal(check(&trust, true, "alice", midnight - 1, &s.proof, &pin), 0);
    assert_int_equal(check(&trust, true, "alice", midnight, &s.proof, &pin), GT_TRUST_E_DENIED);
    gt_trust_deinit(&trust);
}

static void test_empty_pin_file_denies_all(void **state)
{
    static const char *texts[] = {"", "\n\n", "# no pin yet\n", "   \t \n#"};

    for (size_t i = 0; i < GT_ARRAY_SIZE(texts); i++) {
        struct gt_trust trust;
        struct signed_by s;
        const struct gt_pin *pin;

        parse_pins(texts[i], &trust);
        assert_int_equal(trust.policy, GT_POLICY_PIN);
        sign(&ids[0], &s);
        assert_int_equal(check(&trust, true, "alice", NOW, &s.proof, &pin), GT_TRUST_E_DENIED);
        gt_trust_deinit(&trust);
    }
}

static int setup(void **state)
{
    for (size_t i = 0; i < GT_ARRAY_SIZE(kinds); i++) {
        identity_init(&ids[i], kinds[i], "x");
        if (!ids[i].signer)
            return -1;
    }
    return 0;
}

static int teardown(void **state)
{
    for (size_t i = 0; i < GT_ARRAY_SIZE(kinds); i++)
        identity_deinit(&ids[i]);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_signature_verifies_for_each_kind_of_key),
        cmocka_unit_test(test_verify_rejects_other_context_or_statement),
        cmocka_unit_test(test_verify_rejects_other_key_or_algorithm),
        cmocka_unit_test(test_verify_rejects_each_flipped_bit),
        cmocka_unit_test(test_verify_rejects_non_der_ecdsa_signatures),
        cmocka_unit_test(test_verify_rejects_malformed_certificates),
        cmocka_unit_test(test_signer_rejects_unsuited_keys),
        cmocka_unit_test(test_verify_rejects_unsuited_keys),
        cmocka_unit_test(test_signer_rejects_bad_pem),
        cmocka_unit_test(test_psk_accepts_unsigned_and_rejects_bad_signatures),
        cmocka_unit_test(test_pin_requires_name_role_and_key),
        cmocka_unit_test(test_key_without_pin_is_not_verified),
        cmocka_unit_test(test_pin_expires_after_its_last_day),
        cmocka_unit_test(test_empty_pin_file_denies_all),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
