/* SPDX-License-Identifier: ISC */
/*
 * The one wall in front of OpenSSL's SSL_*: TLS 1.3 with an external PSK (psk_dhe_ke, X25519) and
 * nothing else, on a non-blocking socket that the caller owns and watches.
 *
 * The handshake is OpenSSL's, the records after it are ours (record.h). They are batched: one
 * recv() takes up to GT_TLS_BATCH bytes of ciphertext, one send() gives up to as many, however many
 * 16 KiB records that is. The buffers come from a pool of the thread and are held only while bytes
 * are in them: an idle connection has none (batch.h). Wait level-triggered: a read says E_AGAIN
 * when the socket was emptied a moment ago.
 *
 * After the handshake each end asserts what it relies on: TLS 1.3, PSK used, no certificate,
 * X25519, one of our suites, the ALPN. A server that ignores the PSK is refused, whatever
 * certificate it shows.
 */
#pragma once

#include "gotthard/batch.h"
#include "gotthard/crypto.h"

#define GT_TLS_BATCH   GT_BATCH
#define GT_TLS_SEGMENT 1350 /* bytes: with what TLS, TCP and IP add they fit into one packet */

struct gt_tls_context; /* shared by the connections of one process: role and ALPN */
struct gt_tls;

enum gt_tls_role { GT_TLS_CLIENT, GT_TLS_SERVER };

/* Server: the PSK of @identity. False: unknown, a random key is used and the handshake fails like a
 * wrong key's. */
typedef bool (*gt_tls_psk_fn)(void *userdata, struct gt_span identity,
                              uint8_t ret_psk[static GT_KEY_SIZE]);

enum {
    GT_TLS_E_AGAIN = 1, /* nothing now: wait for what gt_tls_wants_* say */
    GT_TLS_E_CLOSED,    /* the peer closed in order (close_notify) */
    GT_TLS_E_BROKEN,    /* anything else; gt_tls_why() says what */
};

/* @alpn (copied, at most 64 bytes). The context outlives its connections. */
int gt_tls_context_new(enum gt_tls_role role, const char *alpn,
                       struct gt_tls_context **ret) GT_MUST_CHECK;
struct gt_tls_context *gt_tls_context_free(struct gt_tls_context *context);

/* Client: with @identity and @psk (both copied). @fd is borrowed: the caller closes it after
 * gt_tls_free. */
int gt_tls_new_client(struct gt_tls_context *context, int fd, struct gt_span identity,
                      const uint8_t psk[static GT_KEY_SIZE], struct gt_tls **ret) GT_MUST_CHECK;
int gt_tls_new_server(struct gt_tls_context *context, int fd, gt_tls_psk_fn psk, void *userdata,
                      struct gt_tls **ret) GT_MUST_CHECK;
/* Server, before the handshake: a second key of the same identity, for while keys are changed. It
 * is used when the client's binder was made with it. -ENOMEM. */
int gt_tls_set_previous(struct gt_tls *tls, gt_tls_psk_fn previous) GT_MUST_CHECK;
struct gt_tls *gt_tls_free(struct gt_tls *tls);

/* 0: done and asserted; a client's last words go out with its first bytes, or gt_tls_flush.
 * E_AGAIN, E_CLOSED, E_BROKEN. */
int gt_tls_handshake(struct gt_tls *tls) GT_MUST_CHECK;
/* The identity the client proved (server, after the handshake). Borrows. */
struct gt_span gt_tls_identity(const struct gt_tls *tls);

/* Decrypts up to @n bytes (at least 1 with 0). */
int gt_tls_read(struct gt_tls *tls, void *ret, size_t n, size_t *ret_n) GT_MUST_CHECK;
/*
 * The same without a copy, for who reads much; not beside gt_tls_read. gt_tls_open gives what is in
 * the next record that is here as a whole (E_AGAIN: none is), and all that it gave stays where it
 * is until gt_tls_fill, which looks for more in the socket, or gt_tls_rest, which gives an empty
 * input buffer back.
 */
int gt_tls_open(struct gt_tls *tls, struct gt_span *ret) GT_MUST_CHECK;
int gt_tls_fill(struct gt_tls *tls) GT_MUST_CHECK;
void gt_tls_rest(struct gt_tls *tls);
/* Is there ciphertext or plaintext inside that gt_tls_read could give without the socket? */
bool gt_tls_has_pending(const struct gt_tls *tls);
/*
 * Encrypts all @n bytes (at most 16 KiB) into the output buffer, sending when that is full.
 * E_AGAIN: nothing was taken, the socket is full; call again when it is writable. What is taken
 * goes out by gt_tls_flush at the latest.
 */
int gt_tls_write(struct gt_tls *tls, const void *data, size_t n) GT_MUST_CHECK;
/* The same of bytes that lie in several places. */
int gt_tls_write_parts(struct gt_tls *tls, const struct gt_span *parts,
                       size_t n_parts) GT_MUST_CHECK;
/* How many bytes are best written at once: nothing of a record can be read before all of it is
 * there, so that they are small until the way has shown that it is fast. */
size_t gt_tls_record_size(const struct gt_tls *tls);
/* Would gt_tls_write take @n bytes without sending first? */
bool gt_tls_has_room(struct gt_tls *tls, size_t n);
/* Sends what is buffered. E_AGAIN: some is left, wait for writable. */
int gt_tls_flush(struct gt_tls *tls) GT_MUST_CHECK;
bool gt_tls_wants_write(const struct gt_tls *tls);
/* Queues close_notify and flushes once; best effort. */
void gt_tls_close(struct gt_tls *tls);
/* Why it broke: a few words, static or inside @tls. */
const char *gt_tls_why(const struct gt_tls *tls);
/* Server: has the client shown that it has its key, whatever becomes of the handshake? Its hello
 * does that, so that one who was cut off after it is no stranger. */
bool gt_tls_is_keyed(const struct gt_tls *tls);
/* Did it break in the handshake by an alert or by one of our checks (a wrong key, most likely)?
 * Not by the network, and not because nothing like TLS is spoken there. */
bool gt_tls_is_refused(const struct gt_tls *tls);
/* Did it break because the other side closed the connection in order, but said no goodbye in TLS?
 */
bool gt_tls_is_hung_up(const struct gt_tls *tls);
/* Changes its key after @n_bytes instead of 16 GiB: for tests. */
void gt_tls_set_key_limit(struct gt_tls *tls, uint64_t n_bytes);
/* "TLS_AES_128_GCM_SHA256" */
const char *gt_tls_suite(const struct gt_tls *tls);
