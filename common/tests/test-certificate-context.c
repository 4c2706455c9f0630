/* SPDX-License-Identifier: ISC */
/*
 * certificate-context.c against a plain OpenSSL server in memory: which certificates are accepted
 * for which name, which reason is kept for the others, which server name (SNI) and protocol (ALPN)
 * the server receives, and that the server gets this side's certificate.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>

#include "gotthard/tls/certificate-context.h"

#define DAY 86400

struct pair {
    X509 *certificate;
    EVP_PKEY *key;
    char certificate_pem[4096], key_pem[4096];
};

static struct pair authority, other_authority, expired_authority, client;

static void write_pem(BIO *bio, char *ret, size_t cap)
{
    int n = BIO_read(bio, ret, (int)cap - 1);

    assert_true(n > 0);
    ret[n] = 0;
    BIO_free(bio);
}

static void add_extension(X509 *certificate, int nid, const char *value)
{
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, nid, value);

    assert_non_null(extension);
    X509_add_ext(certificate, extension, -1);
    X509_EXTENSION_free(extension);
}

/* @issuer: NULL for an authority, signed by itself. @names: subjectAltName, or NULL. */
static void make(struct pair *ret, const char *subject, const char *names, int from_days,
                 int to_days, const struct pair *issuer)
{
    X509 *certificate = X509_new();
    X509_NAME *name = X509_get_subject_name(certificate);
    BIO *bio;

    ret->key = EVP_EC_gen("P-256");
    ret->certificate = certificate;
    X509_set_version(certificate, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), issuer ? 2 : 1);
    X509_gmtime_adj(X509_getm_notBefore(certificate), from_days * DAY);
    X509_gmtime_adj(X509_getm_notAfter(certificate), to_days * DAY);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const uint8_t *)subject, -1, -1, 0);
    X509_set_issuer_name(certificate,
                         X509_get_subject_name(issuer ? issuer->certificate : certificate));
    X509_set_pubkey(certificate, ret->key);
    if (!issuer)
        add_extension(certificate, NID_basic_constraints, "critical,CA:TRUE");
    if (names)
        add_extension(certificate, NID_subject_alt_name, names);
    assert_true(X509_sign(certificate, issuer ? issuer->key : ret->key, EVP_sha256()) > 0);
    bio = BIO_new(BIO_s_mem());
    PEM_write_bio_X509(bio, certificate);
    write_pem(bio, ret->certificate_pem, sizeof(ret->certificate_pem));
    bio = BIO_new(BIO_s_mem());
    PEM_write_bio_PrivateKey(bio, ret->key, NULL, NULL, 0, NULL, NULL);
    write_pem(bio, ret->key_pem, sizeof(ret->key_pem));
}

static void pair_deinit(struct pair *pair)
{
    X509_free(pair->certificate);
    EVP_PKEY_free(pair->key);
}

static int setup(void **state)
{
    make(&authority, "authority", NULL, -1, 10, NULL);
    make(&other_authority, "other authority", NULL, -1, 10, NULL);
    make(&expired_authority, "old authority", NULL, -20, -10, NULL);
    make(&client, "GatewayOli", NULL, -1, 10, &authority);
    return 0;
}

static int teardown(void **state)
{
    pair_deinit(&authority);
    pair_deinit(&other_authority);
    pair_deinit(&expired_authority);
    pair_deinit(&client);
    return 0;
}

/* --- a handshake -------------------------------------------------------------------------------
 */

struct seen { /* by the server */
    char sni[64], alpn[64], client[64];
    int version;
};

static int on_alpn(SSL *ssl, const uint8_t **ret, uint8_t *ret_n, const uint8_t *in, unsigned n,
                   void *seen)
{
    snprintf(((struct seen *)seen)->alpn, 64, "%.*s", (int)in[0], in + 1);
    *ret = in + 1;
    *ret_n = in[0];
    return SSL_TLSEXT_ERR_OK;
}

static int accept_any(int is_accepted, X509_STORE_CTX *store)
{
    return 1;
}

static SSL_CTX *server_context(const struct pair *server, struct seen *seen, int version)
{
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());

    assert_int_equal(SSL_CTX_use_certificate(context, server->certificate), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(context, server->key), 1);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, accept_any);
    SSL_CTX_set_alpn_select_cb(context, on_alpn, seen);
    SSL_CTX_set_security_level(context, 0);
    SSL_CTX_set_min_proto_version(context, version);
    SSL_CTX_set_max_proto_version(context, version);
    return context;
}

static void note(SSL *server, struct seen *seen)
{
    const char *sni = SSL_get_servername(server, TLSEXT_NAMETYPE_host_name);
    X509 *peer = SSL_get1_peer_certificate(server);

    snprintf(seen->sni, sizeof(seen->sni), "%s", sni ? sni : "");
    if (peer)
        X509_NAME_get_text_by_NID(X509_get_subject_name(peer), NID_commonName, seen->client,
                                  sizeof(seen->client));
    seen->version = SSL_version(server);
    X509_free(peer);
}

/* Returns true if the client accepts the server. */
static bool shake(SSL_CTX *context, const struct pair *server, int version, struct seen *ret)
{
    *ret = (struct seen){0};
    SSL_CTX *of_server = server_context(server, ret, version);
    SSL *ends[2] = {SSL_new(context), SSL_new(of_server)};
    BIO *bios[2];
    int done[2] = {0, 0};

    BIO_new_bio_pair(&bios[0], 0, &bios[1], 0);
    for (int i = 0; i < 2; i++)
        SSL_set_bio(ends[i], bios[i], bios[i]);
    SSL_set_connect_state(ends[0]);
    SSL_set_accept_state(ends[1]);
    SSL_set_tlsext_host_name(ends[0], "192.0.2.1"); /* as libmosquitto sets the address */
    for (int turn = 0; turn < 10; turn++)
        for (int i = 0; i < 2; i++)
            done[i] = SSL_do_handshake(ends[i]) == 1;
    note(ends[1], ret);
    SSL_free(ends[0]);
    SSL_free(ends[1]);
    SSL_CTX_free(of_server);
    return done[0];
}

static struct ssl_ctx_st *context_for(const char *host, const char *alpn, const char *authorities)
{
    struct gt_certificate_files files = {
        .authorities = gt_span_text(authorities),
        .certificate = gt_span_text(client.certificate_pem),
        .key = gt_span_text(client.key_pem),
    };
    struct ssl_ctx_st *context = NULL;
    char why[GT_CERTIFICATE_WHY];

    int r = gt_certificate_context_new(&files, host, alpn, &context, why);
    if (r != 0)
        fail_msg("%d: %s", r, why);
    return context;
}

static void test_context_checks_the_server(void **state)
{
    const struct {
        const char *host, *subject, *names;
        int from_days, to_days;
        const struct pair *issuer;
        int error;
        const char *sni;
    } cases[] = {
        {"broker.example", "x", "DNS:broker.example", -1, 10, &authority, 0, "broker.example"},
        {"broker.example.", "x", "DNS:broker.example", -1, 10, &authority, 0, "broker.example"},
        {"Broker.Example", "x", "DNS:broker.example", -1, 10, &authority, 0, "Broker.Example"},
        {"b.my.example", "x", "DNS:*.my.example", -1, 10, &authority, 0, "b.my.example"},
        {"broker.example", "broker.example", NULL, -1, 10, &authority, 0, "broker.example"},
        {"127.0.0.1", "x", "IP:127.0.0.1", -1, 10, &authority, 0, ""},
        {"::1", "x", "IP:::1", -1, 10, &authority, 0, ""},
        {"fe80::1%lo", "x", "IP:fe80::1", -1, 10, &authority, 0, ""},
        {"10.0.0.1", "10.0.0.1", NULL, -1, 10, &authority, 0, ""},
        {"10.0.0.1", "x", "DNS:10.0.0.1", -1, 10, &authority, 0, ""},
        {"10.0.0.2", "x", "IP:10.0.0.1", -1, 10, &authority, X509_V_ERR_IP_ADDRESS_MISMATCH, ""},
        {"broker.example", "broker.example", "DNS:other.example", -1, 10, &authority,
         X509_V_ERR_HOSTNAME_MISMATCH, "broker.example"},
        {"b.c.my.example", "x", "DNS:*.my.example", -1, 10, &authority,
         X509_V_ERR_HOSTNAME_MISMATCH, "b.c.my.example"},
        {"broker.example", "x", "DNS:broker.example", -10, -1, &authority,
         X509_V_ERR_CERT_HAS_EXPIRED, "broker.example"},
        {"broker.example", "x", "DNS:broker.example", 1, 10, &authority,
         X509_V_ERR_CERT_NOT_YET_VALID, "broker.example"},
        {"broker.example", "x", "DNS:broker.example", -1, 10, &other_authority,
         X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY, "broker.example"},
        {"broker.example", "broker.example", NULL, -1, 10, NULL,
         X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT, "broker.example"},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        struct ssl_ctx_st *context = context_for(cases[i].host, NULL, authority.certificate_pem);
        struct gt_verification verification = {0};
        struct pair server;
        struct seen seen;

        make(&server, cases[i].subject, cases[i].names, cases[i].from_days, cases[i].to_days,
             cases[i].issuer);
        gt_certificate_context_watch(&verification);
        bool is_accepted = shake(context, &server, TLS1_3_VERSION, &seen);
        gt_certificate_context_watch(NULL);
        if (verification.error != cases[i].error || is_accepted != (cases[i].error == 0))
            fail_msg("case %zu: error %d", i, verification.error);
        assert_string_equal(seen.sni, cases[i].sni);
        pair_deinit(&server);
        gt_certificate_context_free(context);
    }
}

static void test_rejection_keeps_the_facts(void **state)
{
    struct ssl_ctx_st *context = context_for("wanted.example", NULL, authority.certificate_pem);
    struct gt_verification verification = {0};
    char day[GT_VERIFICATION_DAY];
    struct pair server;
    struct seen seen;

    make(&server, "evil\nname", "DNS:one.example,IP:10.1.2.3,email:a@b", -3, -1, &other_authority);
    gt_certificate_context_watch(&verification);
    assert_false(shake(context, &server, TLS1_2_VERSION, &seen));
    gt_certificate_context_watch(NULL);
    assert_string_equal(verification.names, "one.example, 10.1.2.3");
    assert_string_equal(verification.issuer, "other authority");
    assert_string_equal(verification.host, "wanted.example");
    assert_true(verification.not_after - verification.not_before == 2 * DAY);
    assert_string_equal(gt_verification_day(1700000000, day), "2023-11-14");
    gt_verification_subject(server.certificate, verification.names, sizeof(verification.names));
    assert_string_equal(verification.names, "evil\nname");
    pair_deinit(&server);
    gt_certificate_context_free(context);
}

static void test_own_name_is_that_of_the_certificate(void **state)
{
    struct ssl_ctx_st *context = context_for("localhost", NULL, authority.certificate_pem);
    char name[64] = "before", cut[4];

    gt_certificate_context_own_name(context, name, sizeof(name));
    assert_string_equal(name, "GatewayOli");
    gt_certificate_context_own_name(context, cut, sizeof(cut));
    assert_string_equal(cut, "Gat");
    gt_certificate_context_own_name(NULL, name, sizeof(name));
    assert_string_equal(name, "");
    gt_certificate_context_free(context);
}

static void test_context_sends_its_certificate_and_protocol(void **state)
{
    struct ssl_ctx_st *context =
        context_for("localhost", "x-amzn-mqtt-ca", authority.certificate_pem);
    struct pair server;
    struct seen seen;

    make(&server, "x", "DNS:localhost", -1, 10, &authority);
    assert_true(shake(context, &server, TLS1_2_VERSION, &seen));
    assert_string_equal(seen.alpn, "x-amzn-mqtt-ca");
    assert_string_equal(seen.client, "GatewayOli");
    assert_true(shake(context, &server, TLS1_3_VERSION, &seen));
    assert_int_equal(seen.version, TLS1_3_VERSION);
    assert_false(shake(context, &server, TLS1_1_VERSION, &seen));
    pair_deinit(&server);
    gt_certificate_context_free(context);
}

/* Nothing is sent while it is held, the socket is not written, and then the handshake completes. */
static void test_held_handshake_sends_nothing(void **state)
{
    struct ssl_ctx_st *context = context_for("localhost", NULL, authority.certificate_pem);
    struct pair server;
    struct seen seen;
    BIO *bios[2];
    int done[2] = {0, 0};

    make(&server, "x", "DNS:localhost", -1, 10, &authority);
    SSL_CTX *of_server = server_context(&server, &seen, TLS1_3_VERSION);
    SSL *ends[2] = {SSL_new(context), SSL_new(of_server)};
    BIO_new_bio_pair(&bios[0], 0, &bios[1], 0);
    for (int i = 0; i < 2; i++)
        SSL_set_bio(ends[i], bios[i], bios[i]);
    SSL_set_accept_state(ends[1]);
    gt_certificate_context_hold(true);
    for (int turn = 0; turn < 3; turn++) {
        int r = SSL_connect(ends[0]);

        assert_int_equal(SSL_get_error(ends[0], r), SSL_ERROR_WANT_WRITE);
        assert_int_equal(BIO_pending(bios[1]), 0);
    }
    gt_certificate_context_hold(false);
    for (int turn = 0; turn < 10; turn++)
        for (int i = 0; i < 2; i++)
            done[i] = SSL_do_handshake(ends[i]) == 1;
    assert_true(done[0] && done[1]);
    for (int i = 0; i < 2; i++)
        SSL_free(ends[i]);
    SSL_CTX_free(of_server);
    pair_deinit(&server);
    gt_certificate_context_free(context);
}

static void test_context_takes_several_authorities(void **state)
{
    char both[sizeof(authority.certificate_pem) * 2];
    struct pair server;
    struct seen seen;

    stpcpy(stpcpy(both, other_authority.certificate_pem), authority.certificate_pem);
    struct ssl_ctx_st *context = context_for("localhost", NULL, both);
    struct ssl_ctx_st *again = gt_certificate_context_ref(context);
    gt_certificate_context_free(context);
    make(&server, "x", "DNS:localhost", -1, 10, &authority);
    assert_true(shake(again, &server, TLS1_3_VERSION, &seen));
    pair_deinit(&server);
    gt_certificate_context_free(again);
}

static void test_context_rejects_bad_files(void **state)
{
    const char *ca = authority.certificate_pem, *certificate = client.certificate_pem;
    const struct {
        const char *authorities, *certificate, *key;
        int r;
        const char *why;
    } cases[] = {
        {"", certificate, client.key_pem, GT_CERTIFICATE_E_AUTHORITIES, "empty"},
        {client.key_pem, "", "", GT_CERTIFICATE_E_AUTHORITIES, "contains PRIVATE KEY"},
        {client.certificate_pem, "", "", GT_CERTIFICATE_E_AUTHORITIES,
         "no root certificate, only that of GatewayOli"},
        {ca, "<html>", client.key_pem, GT_CERTIFICATE_E_OWN, "web page"},
        {ca, certificate, "", GT_CERTIFICATE_E_OWN, "empty"},
        {ca, certificate, authority.key_pem, GT_CERTIFICATE_E_OWN, "rejected by OpenSSL"},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        struct gt_certificate_files files = {gt_span_text(cases[i].authorities),
                                             gt_span_text(cases[i].certificate),
                                             gt_span_text(cases[i].key)};
        struct ssl_ctx_st *context = NULL;
        char why[GT_CERTIFICATE_WHY];

        assert_int_equal(gt_certificate_context_new(&files, "localhost", NULL, &context, why),
                         cases[i].r);
        assert_null(context);
        if (!strstr(why, cases[i].why))
            fail_msg("case %zu: %s", i, why);
    }
}

static void test_expired_authority_is_a_warning(void **state)
{
    struct gt_certificate_files files = {.authorities =
                                             gt_span_text(expired_authority.certificate_pem)};
    struct ssl_ctx_st *context = NULL;
    char why[GT_CERTIFICATE_WHY];

    assert_int_equal(gt_certificate_context_new(&files, "localhost", NULL, &context, why), 0);
    if (!strstr(why, "the authority old authority expired on 20"))
        fail_msg("%s", why);
    gt_certificate_context_free(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_context_checks_the_server),
        cmocka_unit_test(test_rejection_keeps_the_facts),
        cmocka_unit_test(test_own_name_is_that_of_the_certificate),
        cmocka_unit_test(test_context_sends_its_certificate_and_protocol),
        cmocka_unit_test(test_held_handshake_sends_nothing),
        cmocka_unit_test(test_context_takes_several_authorities),
        cmocka_unit_test(test_context_rejects_bad_files),
        cmocka_unit_test(test_expired_authority_is_a_warning),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
