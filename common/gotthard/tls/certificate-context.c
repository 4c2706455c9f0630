/* SPDX-License-Identifier: ISC */
/*
 * See the header. libmosquitto creates the SSL objects, out of reach, and knows the server only by
 * the address that it connects to. So everything about the server's name is done by callbacks of
 * the context.
 */
#include "gotthard/tls/certificate-context.h"

#include <arpa/inet.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>

#include "gotthard/base/text.h"
#include "gotthard/crypto/crypto-start.h"
#include "gotthard/crypto/pem.h"

struct server { /* owned by its context */
    char host[GT_HOST_MAX + 1];
    bool is_address;
};

static _Thread_local struct gt_verification *watched;
static int server_index; /* of struct server in the extra data of a context */

void gt_certificate_context_watch(struct gt_verification *verification)
{
    watched = verification;
}

/* --- held handshakes --------------------------------------------------------------------- */

static _Thread_local bool is_held;
static BIO_METHOD *gate_method; /* a filter before the socket */

void gt_certificate_context_hold(bool is_to_be_held)
{
    is_held = is_to_be_held;
}

static int gate_write(BIO *gate, const char *data, int n)
{
    BIO_clear_retry_flags(gate);
    if (is_held) {
        BIO_set_retry_write(gate);
        return -1;
    }
    int r = BIO_write(BIO_next(gate), data, n);
    BIO_copy_next_retry(gate);
    return r;
}

static long gate_control(BIO *gate, int command, long number, void *pointer)
{
    return BIO_next(gate) ? BIO_ctrl(BIO_next(gate), command, number, pointer) : 0;
}

static int gate_create(BIO *gate)
{
    BIO_set_init(gate, 1);
    return 1;
}

static void init_gate(void)
{
    gate_method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_FILTER, "gate");
    if (!gate_method || BIO_meth_set_write(gate_method, gate_write) != 1 ||
        BIO_meth_set_ctrl(gate_method, gate_control) != 1 ||
        BIO_meth_set_create(gate_method, gate_create) != 1)
        gate_method = NULL;
}

/* Puts a gate before the socket of @ssl. Returns false without memory. */
static bool add_gate(SSL *ssl)
{
    BIO *socket = SSL_get_wbio(ssl), *gate = gate_method ? BIO_new(gate_method) : NULL;

    if (!socket || !gate)
        return false;
    BIO_up_ref(socket); /* SSL_set0_wbio() releases its own */
    SSL_set0_wbio(ssl, BIO_push(gate, socket));
    return true;
}

/* --- the server's name ------------------------------------------------------------------- */

static void server_free(void *parent, void *server, CRYPTO_EX_DATA *data, int index, long number,
                        void *pointer)
{
    free(server);
}

static void init_index(void)
{
    server_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, server_free);
    init_gate();
}

static struct server *server_of(const SSL *ssl)
{
    return SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), server_index);
}

/* "fe80::1%eth0" is compared without its zone. */
static struct server *server_new(const char *host)
{
    struct server *server = calloc(1, sizeof(*server));
    uint8_t address[sizeof(struct in6_addr)];

    if (!server)
        return NULL;
    size_t n = strlen(host);
    n -= n > 1 && host[n - 1] == '.';
    snprintf(server->host, sizeof(server->host), "%.*s", (int)n, host);
    char *zone = strchr(server->host, '%');
    if (zone)
        *zone = 0;
    server->is_address = inet_pton(AF_INET, server->host, address) == 1 ||
                         inet_pton(AF_INET6, server->host, address) == 1;
    return server;
}

/* Called for the head of a record, also if the bytes are not TLS. */
static void on_record(int is_sent, int version, int type, const void *bytes, size_t n, SSL *ssl,
                      void *userdata)
{
    if (watched && !is_sent && type == SSL3_RT_HEADER && n >= 5 && memcmp(bytes, "HTTP/", 5) == 0)
        watched->is_http = true;
    if (watched && !is_sent && type == SSL3_RT_HEADER)
        watched->is_answered = true;
}

/* Before the ClientHello is made: replaces the address that libmosquitto has set. RFC 6066, section
 * 3, permits names only. Keeps the server's fatal alert, which TLS 1.3 may send after the
 * handshake. */
static void on_info(const SSL *ssl, int where, int result)
{
    struct server *server = server_of(ssl);

    if ((where & SSL_CB_READ_ALERT) == SSL_CB_READ_ALERT && watched && result >> 8 == SSL3_AL_FATAL)
        watched->alert = result & 0xff;
    if (where & SSL_CB_HANDSHAKE_DONE && watched)
        watched->is_done = true;
    if (!(where & SSL_CB_HANDSHAKE_START))
        return;
    (void)SSL_set_tlsext_host_name((SSL *)ssl, server->is_address ? NULL : server->host);
    if (is_held && !add_gate((SSL *)ssl))
        shutdown(SSL_get_fd(ssl), SHUT_RDWR); /* it fails, instead of a ClientHello to the proxy */
}

static bool expect_server(SSL_CTX *context, const struct server *server)
{
    X509_VERIFY_PARAM *parameters = SSL_CTX_get0_param(context);

    X509_VERIFY_PARAM_set_hostflags(parameters, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return server->is_address ? X509_VERIFY_PARAM_set1_ip_asc(parameters, server->host) == 1
                              : X509_VERIFY_PARAM_set1_host(parameters, server->host, 0) == 1;
}

static bool set_server(SSL_CTX *context, const char *host)
{
    struct server *server = server_new(host);

    if (!server || SSL_CTX_set_ex_data(context, server_index, server) != 1) {
        free(server);
        return false;
    }
    SSL_CTX_set_info_callback(context, on_info);
    SSL_CTX_set_msg_callback(context, on_record);
    return expect_server(context, server);
}

/* --- verification ------------------------------------------------------------------------ */

/* An address is often written as a name, in an alternative name or in the subject. libmosquitto has
 * accepted that, and fleets have such certificates. */
static bool has_address_as_name(X509 *certificate, const struct server *server)
{
    return certificate && X509_check_host(certificate, server->host, 0, 0, NULL) == 1;
}

static int on_verify(int is_accepted, X509_STORE_CTX *store)
{
    const SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    const struct server *server = server_of(ssl);
    X509 *certificate = X509_STORE_CTX_get_current_cert(store);
    int error = X509_STORE_CTX_get_error(store);

    if (is_accepted)
        return 1;
    if (error == X509_V_ERR_IP_ADDRESS_MISMATCH && has_address_as_name(certificate, server)) {
        X509_STORE_CTX_set_error(store, X509_V_OK);
        return 1;
    }
    /* Dates are those of the certificate at fault, which may be an authority's. */
    if (error != X509_V_ERR_CERT_HAS_EXPIRED && error != X509_V_ERR_CERT_NOT_YET_VALID)
        certificate = X509_STORE_CTX_get0_cert(store);
    if (watched && watched->error == 0)
        gt_verification_set(watched, error, server->host, certificate);
    return 0;
}

/* --- the context ------------------------------------------------------------------------- */

static bool configure(SSL_CTX *context, const char *host, const char *alpn)
{
    uint8_t protocols[1 + 255];
    size_t n = alpn ? strlen(alpn) : 0;

    /* A system-wide openssl.cnf may set any of these options. */
    SSL_CTX_set_options(context, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, on_verify);
    if (n > 255 || !set_server(context, host) ||
        SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) != 1)
        return false;
    if (n == 0)
        return true;
    protocols[0] = (uint8_t)n;
    memcpy(protocols + 1, alpn, n);
    return SSL_CTX_set_alpn_protos(context, protocols, (unsigned)n + 1) == 0;
}

static void warn_of_expiry(const X509 *authority, char *ret_why)
{
    char name[GT_VERIFICATION_NAME], day[GT_VERIFICATION_DAY];
    time_t not_after = gt_verification_not_after(authority);

    if (*ret_why || not_after == 0 || not_after > time(NULL))
        return;
    gt_verification_subject(authority, name, sizeof(name));
    snprintf(ret_why, GT_CERTIFICATE_WHY, "the authority %s expired on %s", name,
             gt_verification_day(not_after, day));
}

/* OpenSSL trusts a chain only up to a self-issued certificate, or one that is marked as trusted. */
static bool has_root(const struct stack_st_X509 *authorities)
{
    for (int i = 0; i < sk_X509_num(authorities); i++) {
        X509 *authority = sk_X509_value(authorities, i);

        if ((X509_get_extension_flags(authority) & EXFLAG_SI) || X509_trusted(authority))
            return true;
    }
    return false;
}

static int read_authorities(struct gt_span pem, struct stack_st_X509 **ret, char *ret_why)
{
    char name[GT_VERIFICATION_NAME], why[GT_PEM_WHY];

    int r = gt_pem_certificates(pem, ret, why);
    if (r > 0)
        snprintf(ret_why, GT_CERTIFICATE_WHY, "%s", why);
    if (r == 0 && !has_root(*ret)) {
        gt_verification_subject(sk_X509_value(*ret, 0), name, sizeof(name));
        snprintf(ret_why, GT_CERTIFICATE_WHY,
                 "contains no root certificate, only that of %s; add the authority that issued it",
                 name);
        *ret = gt_pem_certificates_free(*ret);
        r = 1;
    }
    return r > 0 ? GT_CERTIFICATE_E_AUTHORITIES : r;
}

static int add_authorities(SSL_CTX *context, struct gt_span pem, char *ret_why)
{
    struct stack_st_X509 *authorities = NULL;

    int r = read_authorities(pem, &authorities, ret_why);
    if (r)
        return r;
    for (int i = 0; r == 0 && i < sk_X509_num(authorities); i++) {
        X509 *authority = sk_X509_value(authorities, i);

        if (X509_STORE_add_cert(SSL_CTX_get_cert_store(context), authority) != 1)
            r = -ENOMEM;
        warn_of_expiry(authority, ret_why);
    }
    gt_pem_certificates_free(authorities);
    return r;
}

/* OpenSSL rejects a pair that does not match, and keys and digests below its security level. */
static int use_pair(SSL_CTX *context, struct stack_st_X509 *chain, EVP_PKEY *key, char *ret_why)
{
    unsigned before = gt_crypto_n_failed_allocations();
    X509 *certificate = sk_X509_shift(chain);
    int r = 0;

    if (SSL_CTX_use_cert_and_key(context, certificate, key, chain, 1) != 1) {
        const char *reason = ERR_reason_error_string(ERR_peek_last_error());

        snprintf(ret_why, GT_CERTIFICATE_WHY, "rejected by OpenSSL: %s",
                 reason ? reason : "unknown reason");
        r = before == gt_crypto_n_failed_allocations() ? GT_CERTIFICATE_E_OWN : -ENOMEM;
    }
    X509_free(certificate);
    return r;
}

static int add_pair(SSL_CTX *context, const struct gt_certificate_files *files, char *ret_why)
{
    struct stack_st_X509 *chain = NULL;
    EVP_PKEY *key = NULL;
    char why[GT_PEM_WHY];

    if (files->certificate.n == 0)
        return 0;
    int r = gt_pem_certificates(files->certificate, &chain, why);
    if (r == 0)
        r = gt_pem_key(files->key, &key, why);
    if (r > 0) {
        snprintf(ret_why, GT_CERTIFICATE_WHY, "%s", why);
        r = GT_CERTIFICATE_E_OWN;
    }
    if (r == 0)
        r = use_pair(context, chain, key, ret_why);
    EVP_PKEY_free(key);
    gt_pem_certificates_free(chain);
    return r;
}

int gt_certificate_context_new(const struct gt_certificate_files *files, const char *host,
                               const char *alpn, struct ssl_ctx_st **ret,
                               char ret_why[static GT_CERTIFICATE_WHY])
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, init_index);
    *ret_why = 0;
    ERR_clear_error();
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    int r = context && configure(context, host, alpn) ? 0 : -ENOMEM;
    if (r == 0)
        r = add_pair(context, files, ret_why);
    if (r == 0)
        r = add_authorities(context, files->authorities, ret_why);
    ERR_clear_error();
    if (r)
        SSL_CTX_free(context);
    else
        *ret = context;
    return r;
}

struct ssl_ctx_st *gt_certificate_context_ref(struct ssl_ctx_st *context)
{
    if (context)
        SSL_CTX_up_ref(context);
    return context;
}

struct ssl_ctx_st *gt_certificate_context_free(struct ssl_ctx_st *context)
{
    SSL_CTX_free(context);
    return NULL;
}

void gt_certificate_context_own_name(const struct ssl_ctx_st *context, char *ret, size_t cap)
{
    X509 *own = context ? SSL_CTX_get0_certificate(context) : NULL;

    *ret = 0;
    if (own)
        (void)X509_NAME_get_text_by_NID(X509_get_subject_name(own), NID_commonName, ret, (int)cap);
}

void gt_certificate_context_own(const struct ssl_ctx_st *context, struct gt_own_certificate *ret)
{
    X509 *own = context ? SSL_CTX_get0_certificate(context) : NULL;

    *ret = (struct gt_own_certificate){0};
    if (own)
        gt_verification_read(own, ret);
}

void gt_own_certificate_read(struct gt_span pem, struct gt_own_certificate *ret)
{
    struct stack_st_X509 *chain = NULL;
    char why[GT_PEM_WHY];

    *ret = (struct gt_own_certificate){0};
    if (pem.n > 0 && gt_pem_certificates(pem, &chain, why) == 0)
        gt_verification_read(sk_X509_value(chain, 0), ret);
    gt_pem_certificates_free(chain);
}

/* Returns an SSL_ERROR_x; NONE: the server has sent data. */
static int probe_step(SSL *connection)
{
    char byte;

    ERR_clear_error();
    int r = SSL_connect(connection);
    if (r == 1)
        r = SSL_read(connection, &byte, sizeof(byte));
    return r > 0 ? SSL_ERROR_NONE : SSL_get_error(connection, r);
}

void gt_certificate_context_probe(struct ssl_ctx_st *context, int fd,
                                  bool (*wait)(void *userdata, short events), void *userdata)
{
    SSL *connection = SSL_new(context);
    int r = connection && SSL_set_fd(connection, fd) == 1 ? SSL_ERROR_WANT_WRITE : SSL_ERROR_SSL;

    while ((r == SSL_ERROR_WANT_READ || r == SSL_ERROR_WANT_WRITE) &&
           wait(userdata, r == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT))
        r = probe_step(connection);
    SSL_free(connection);
    ERR_clear_error();
}

bool gt_certificate_context_is_in_handshake(const struct ssl_st *connection)
{
    return connection && !SSL_is_init_finished(connection);
}
