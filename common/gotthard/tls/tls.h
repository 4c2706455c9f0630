/* SPDX-License-Identifier: ISC */
/*
 * TLS connections: TLS 1.3 with an external PSK (psk_dhe_ke, X25519) and nothing else, on a
 * non-blocking socket that the caller owns and watches. Only the files of this module use SSL_*.
 *
 * OpenSSL does the handshake. The records after it are processed here (record.h), many at a time:
 * one recv() reads up to GT_IOBUF_SIZE bytes of ciphertext, and one send() writes as many. An idle
 * connection holds no buffers (iobuf.h). The caller must wait level-triggered, because a read
 * returns E_AGAIN without a system call after it emptied the socket.
 *
 * After the handshake each end checks what it relies on: TLS 1.3, the PSK, no certificate, X25519,
 * a permitted cipher suite and the ALPN. A server that ignores the PSK is rejected, whatever
 * certificate it presents.
 */
#pragma once

#include "gotthard/crypto/crypto.h"
#include "gotthard/tls/iobuf.h"
#include "gotthard/tls/record.h"

#define GT_TLS_SEGMENT \
    1350 /* bytes of payload; with the headers of TLS, TCP and IP they fit into one packet */

struct gt_tls_context; /* role and ALPN, shared by connections */
struct gt_tls;

enum gt_tls_role { GT_TLS_CLIENT, GT_TLS_SERVER };

/* Server: looks up the PSK of @identity. Returns false if it is unknown. Then a random key is used,
 * so that the handshake fails in the same way as with a wrong key. */
typedef bool (*gt_tls_psk_fn)(void *userdata, struct gt_span identity,
                              uint8_t ret_psk[static GT_KEY_SIZE]);

enum {
    GT_TLS_E_AGAIN = 1, /* wait until the socket is readable, or writable (gt_tls_wants_write) */
    GT_TLS_E_CLOSED,    /* the peer sent close_notify */
    GT_TLS_E_BROKEN,    /* failed; gt_tls_why() has the reason */
};

/* @alpn: 1 to 64 bytes, copied. The context must outlive its connections. Returns 0, -EINVAL or
 * -ENOMEM. */
int gt_tls_context_new(enum gt_tls_role role, const char *alpn,
                       struct gt_tls_context **ret) GT_MUST_CHECK;
/* Sets the preferred suite of later connections (suite-choice.h): AES at first. The other one stays
 * permitted. ChaCha20 is used if either end prefers it. Returns 0 or -ENOMEM. */
int gt_tls_context_prefer(struct gt_tls_context *context, enum gt_record_suite suite) GT_MUST_CHECK;
struct gt_tls_context *gt_tls_context_free(struct gt_tls_context *context);

/* Create a connection on @fd, which is borrowed: the caller closes it after gt_tls_free(). A
 * client's
 * @identity and @psk are copied. Return 0, -EINVAL or -ENOMEM. */
int gt_tls_new_client(struct gt_tls_context *context, int fd, struct gt_span identity,
                      const uint8_t psk[static GT_KEY_SIZE], struct gt_tls **ret) GT_MUST_CHECK;
int gt_tls_new_server(struct gt_tls_context *context, int fd, gt_tls_psk_fn psk, void *userdata,
                      struct gt_tls **ret) GT_MUST_CHECK;
struct gt_tls *gt_tls_free(struct gt_tls *tls);

/* Continues the handshake. Returns 0 if it is complete and checked, E_AGAIN or E_BROKEN. A client's
 * last flight is sent with its first data, or by gt_tls_flush(). */
int gt_tls_handshake(struct gt_tls *tls) GT_MUST_CHECK;
/* Server, after the handshake: returns the authenticated identity, which borrows from @tls. */
struct gt_span gt_tls_identity(const struct gt_tls *tls);

/* Reads up to @n bytes of plaintext. Returns 0 with at least one byte, or E_AGAIN, E_CLOSED,
 * E_BROKEN. */
int gt_tls_read(struct gt_tls *tls, void *ret, size_t n, size_t *ret_n) GT_MUST_CHECK;
/*
 * Reading without a copy; do not combine it with gt_tls_read(). gt_tls_open() returns the content
 * of the next record, or E_AGAIN if the input has no complete one. The contents are valid until
 * gt_tls_fill(), which reads at most @n_max bytes (1 or more) from the socket, or
 * gt_tls_release_input(), which returns an empty input buffer to the pool.
 */
int gt_tls_open(struct gt_tls *tls, struct gt_span *ret) GT_MUST_CHECK;
int gt_tls_fill(struct gt_tls *tls, size_t n_max) GT_MUST_CHECK;
void gt_tls_release_input(struct gt_tls *tls);
/* Returns true if gt_tls_read() can return data without reading from the socket. */
bool gt_tls_has_pending(const struct gt_tls *tls);
/*
 * Encrypts all @n bytes (at most 16 KiB) to the output buffer. Sends only if the buffer is full,
 * else gt_tls_flush() does. Returns 0, E_AGAIN (nothing was accepted: call again when the socket is
 * writable) or E_BROKEN.
 */
int gt_tls_write(struct gt_tls *tls, const void *data, size_t n) GT_MUST_CHECK;
/* As gt_tls_write(), for the concatenation of @parts. */
int gt_tls_write_parts(struct gt_tls *tls, const struct gt_span *parts,
                       size_t n_parts) GT_MUST_CHECK;
/* Returns the recommended number of bytes per write. A record can be read only when it has arrived
 * completely, so that records are small until the path proves to be fast. */
size_t gt_tls_record_size(const struct gt_tls *tls);
/* Returns true if gt_tls_write() accepts @n bytes without sending before. */
bool gt_tls_has_room(struct gt_tls *tls, size_t n);
/* Sends buffered records. Returns 0, E_AGAIN (wait until the socket is writable) or E_BROKEN. */
int gt_tls_flush(struct gt_tls *tls) GT_MUST_CHECK;
bool gt_tls_wants_write(const struct gt_tls *tls);
/* Queues close_notify and tries to send it once. */
void gt_tls_close(struct gt_tls *tls);
/* Returns the reason of a failure, a static text. */
const char *gt_tls_why(const struct gt_tls *tls);
/* Returns true if the handshake failed by an alert or by one of our checks, most likely because of
 * a wrong key. Network errors, peers without TLS and a lack of memory do not count. */
bool gt_tls_is_refused(const struct gt_tls *tls);
/* Returns true if the peer's kernel closed the TCP connection without close_notify: by FIN, or by a
 * reset if the peer left received bytes unread. */
bool gt_tls_is_hung_up(const struct gt_tls *tls);
/* For tests: updates the key after @n_bytes instead of 16 GiB. */
void gt_tls_set_key_limit(struct gt_tls *tls, uint64_t n_bytes);
/* Returns the name of the cipher suite, for example "TLS_AES_128_GCM_SHA256". */
const char *gt_tls_suite(const struct gt_tls *tls);
