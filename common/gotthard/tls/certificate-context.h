/* SPDX-License-Identifier: ISC */
/*
 * The TLS context of a client that authenticates its server by a certificate: the MQTT broker. It
 * is made from the bytes of files that were read once, and no file is opened later. TLS 1.2 or
 * newer; the server's certificate must be signed by one of the authorities and be for the host's
 * name or address. The context is OpenSSL's own SSL_CTX, because libmosquitto takes it.
 */
#pragma once

#include "gotthard/base/bytes.h"
#include "gotthard/tls/verification.h"

struct ssl_ctx_st; /* OpenSSL's SSL_CTX; counts its references */
struct ssl_st;     /* OpenSSL's SSL */

struct gt_certificate_files { /* PEM (crypto/pem.h) */
    struct gt_span authorities;
    struct gt_span certificate, key; /* this side's, with its chain; empty: none */
};

#define GT_CERTIFICATE_WHY 256 /* bytes of a sentence with its NUL */
enum { GT_CERTIFICATE_E_AUTHORITIES = 1, GT_CERTIFICATE_E_OWN };

/*
 * @host: the name or address that the certificate must have, which is also sent as the server name
 * (SNI) if it is a name; without brackets, a trailing dot is ignored. @alpn: or NULL. Returns 0;
 * E_AUTHORITIES or E_OWN, with the reason in @ret_why; or -ENOMEM. On success @ret_why is a warning
 * about an expired authority, or empty.
 */
int gt_certificate_context_new(const struct gt_certificate_files *files, const char *host,
                               const char *alpn, struct ssl_ctx_st **ret,
                               char ret_why[static GT_CERTIFICATE_WHY]) GT_MUST_CHECK;
/* Returns another reference to @context. Takes NULL. */
struct ssl_ctx_st *gt_certificate_context_ref(struct ssl_ctx_st *context);
/* Releases a reference. Takes NULL; returns NULL. */
struct ssl_ctx_st *gt_certificate_context_free(struct ssl_ctx_st *context);

/* Writes the common name of this side's certificate, or "" if there is none. Takes NULL: "". */
void gt_certificate_context_own_name(const struct ssl_ctx_st *context, char *ret, size_t cap);

/* Reads this side's certificate. The name is empty if there is none. Takes NULL. The second form
 * reads the first certificate of @pem, and leaves the name empty if there is none. */
void gt_certificate_context_own(const struct ssl_ctx_st *context, struct gt_own_certificate *ret);
void gt_own_certificate_read(struct gt_span pem, struct gt_own_certificate *ret);

/* From now on handshakes in this thread write their first failure to @verification (kept). NULL
 * ends that. */
void gt_certificate_context_watch(struct gt_verification *verification);
/*
 * Completes a handshake on @fd, a connected socket that does not block, sends nothing more, and
 * reads until the server ends the connection or sends data. So the server's alert about this side's
 * certificate, which TLS 1.3 sends after the handshake, is not lost in a reset. @wait: blocks until
 * @fd is ready for @events (poll.h); returns false to end. The result is in the watched
 * verification.
 */
void gt_certificate_context_probe(struct ssl_ctx_st *context, int fd,
                                  bool (*wait)(void *userdata, short events), void *userdata);
/*
 * @is_held: handshakes that begin in this thread send nothing, as if the socket took no bytes. For
 * a socket that libmosquitto has connected to a proxy. false: they send from now on, when they are
 * continued.
 */
void gt_certificate_context_hold(bool is_held);
/* Returns true while the handshake of @connection is incomplete. Takes NULL: false. */
bool gt_certificate_context_is_in_handshake(const struct ssl_st *connection);
