/* SPDX-License-Identifier: ISC */
/*
 * Reads no further than to the pre-shared key, which must be the last extension. A binder is the
 * HMAC of all bytes before the list of binders, with a key from the first three steps of the key
 * schedule of TLS 1.3 (RFC 8446, sections 4.2.11.2 and 7.1).
 */
#include "gotthard/tls/client-hello.h"

#define RECORD_HANDSHAKE 22                    /* RFC 8446 section 5.1 */
#define CLIENT_HELLO     1                     /* section 4 */
#define PRE_SHARED_KEY   41                    /* section 4.2 */
#define HEAD_SIZE        9                     /* of the record and of the message */
#define BINDERS_SIZE     (2 + 1 + GT_KEY_SIZE) /* of a list with one binder */

/* --- the message ------------------------------------------------------------------------------ */

/* Finds the message in the first record. E_AGAIN, E_FOREIGN. */
static int read_message(struct gt_span bytes, struct gt_span *ret)
{
    struct gt_reader r = gt_reader(bytes.data, bytes.n);
    uint8_t type = gt_read_u8(&r);

    if (bytes.n && type != RECORD_HANDSHAKE)
        return GT_CLIENT_HELLO_E_FOREIGN;
    if (bytes.n < HEAD_SIZE)
        return GT_CLIENT_HELLO_E_AGAIN;
    gt_read_u16(&r); /* legacy version */
    size_t n = gt_read_u16(&r);
    const uint8_t *message = r.at;
    if (gt_read_u8(&r) != CLIENT_HELLO || gt_read_uint(&r, 3) + 4 != n || n > GT_CLIENT_HELLO_MAX)
        return GT_CLIENT_HELLO_E_FOREIGN;
    if (bytes.n < HEAD_SIZE - 4 + n)
        return GT_CLIENT_HELLO_E_AGAIN;
    *ret = gt_span(message, n);
    return 0;
}

/* Reads a list with one identity, and the list with its binder, to the end of the message. */
static bool read_psk(struct gt_span extension, struct gt_client_hello *ret)
{
    struct gt_reader r = gt_reader(extension.data, extension.n);
    struct gt_span identities = gt_read_lp(&r);
    struct gt_reader of_identities = gt_reader(identities.data, identities.n);

    ret->identity = gt_read_lp(&of_identities);
    gt_read_u32(&of_identities); /* age of a ticket */
    bool is_binder = gt_read_u16(&r) == 1 + GT_KEY_SIZE && gt_read_u8(&r) == GT_KEY_SIZE;
    ret->binder = gt_read_bytes(&r, GT_KEY_SIZE);
    return is_binder && gt_reader_is_done(&r) && gt_reader_is_done(&of_identities) &&
           ret->identity.n > 0 && ret->identity.n <= GT_CLIENT_HELLO_IDENTITY_MAX;
}

/* Returns true if the last of @extensions, and no other, is a pre-shared key. */
static bool read_extensions(struct gt_span extensions, struct gt_client_hello *ret)
{
    struct gt_reader r = gt_reader(extensions.data, extensions.n);

    while (r.left > 0 && !r.failed) {
        uint16_t type = gt_read_u16(&r);
        struct gt_span extension = gt_read_lp(&r);

        if (type == PRE_SHARED_KEY)
            return gt_reader_is_done(&r) && read_psk(extension, ret);
    }
    return false;
}

int gt_client_hello_parse(struct gt_span bytes, struct gt_client_hello *ret)
{
    struct gt_client_hello hello = {.message = gt_span("", 0)};
    int result = read_message(bytes, &hello.message);

    if (result)
        return result;
    struct gt_reader r = gt_reader(hello.message.data, hello.message.n);
    gt_read_bytes(&r, 4 + 2 + 32);     /* header, legacy version, random */
    gt_read_bytes(&r, gt_read_u8(&r)); /* session id */
    gt_read_lp(&r);                    /* cipher suites */
    gt_read_bytes(&r, gt_read_u8(&r)); /* compression methods */
    struct gt_span extensions = gt_read_lp(&r);
    if (!gt_reader_is_done(&r) || !read_extensions(extensions, &hello))
        return GT_CLIENT_HELLO_E_FOREIGN;
    *ret = hello;
    return 0;
}

/* --- the binder ------------------------------------------------------------------------------- */

static int finished_key(const uint8_t psk[static GT_KEY_SIZE], uint8_t ret[static GT_KEY_SIZE])
{
    static const uint8_t zeros[GT_KEY_SIZE];
    uint8_t early[GT_KEY_SIZE], empty_hash[GT_KEY_SIZE], binder[GT_KEY_SIZE];

    int r = gt_hkdf_extract(gt_span(zeros, sizeof(zeros)), gt_span(psk, GT_KEY_SIZE), early);
    if (r == 0)
        r = gt_sha256(NULL, 0, empty_hash);
    if (r == 0)
        r = gt_hkdf_expand_label(early, "ext binder", gt_span(empty_hash, sizeof(empty_hash)),
                                 binder, sizeof(binder));
    if (r == 0)
        r = gt_hkdf_expand_label(binder, "finished", gt_span("", 0), ret, GT_KEY_SIZE);
    gt_wipe(early, sizeof(early));
    gt_wipe(binder, sizeof(binder));
    return r;
}

bool gt_client_hello_proves(const struct gt_client_hello *hello,
                            const uint8_t psk[static GT_KEY_SIZE])
{
    uint8_t key[GT_KEY_SIZE], hash[GT_KEY_SIZE], binder[GT_KEY_SIZE];
    struct gt_span signed_part = gt_span(hello->message.data, hello->message.n - BINDERS_SIZE);
    struct gt_span transcript = gt_span(hash, sizeof(hash));

    bool is_computed = finished_key(psk, key) == 0 && gt_sha256(&signed_part, 1, hash) == 0 &&
                       gt_hmac(gt_span(key, sizeof(key)), &transcript, 1, binder) == 0;
    gt_wipe(key, sizeof(key));
    return is_computed && gt_is_equal(binder, hello->binder.data, GT_KEY_SIZE);
}
