/* SPDX-License-Identifier: ISC */
/*
 * The first bytes of an unauthenticated peer. Whatever they are, only a complete ClientHello is
 * accepted, its parts lie within it, and each beginning of it is incomplete. Its binder proves the
 * key exactly if an independent calculation agrees. A valid one does not prove it any more when one
 * bit changes. The first two bytes of the input choose the bit.
 */
#include "gotthard/tls/client-hello.h"

#define LIST_SIZE (2 + 1 + GT_KEY_SIZE)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const uint8_t psk[GT_KEY_SIZE] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10,
                                         11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
                                         22, 23, 24, 25, 26, 27, 28, 29, 30, 31};

static void must(bool is_so)
{
    if (!is_so)
        abort();
}

static void hmac(const uint8_t *key, const void *data, size_t n, uint8_t ret[static GT_KEY_SIZE])
{
    struct gt_span span = gt_span(data, n);

    must(gt_hmac(gt_span(key, GT_KEY_SIZE), &span, 1, ret) == 0);
}

/* RFC 8446, sections 4.2.11.2, 4.4.4 and 7.1, as plain HMACs over literal HkdfLabel structs. */
static void expected_binder(struct gt_span hello, uint8_t ret[static GT_KEY_SIZE])
{
    static const uint8_t zeros[GT_KEY_SIZE];
    static const uint8_t finished[] = "\0\x20\x0etls13 finished\0\x01";
    uint8_t label[] = "\0\x20\x10tls13 ext binder\x20________________________________\x01";
    uint8_t early[GT_KEY_SIZE], binder_key[GT_KEY_SIZE], finished_key[GT_KEY_SIZE];
    uint8_t hash[GT_KEY_SIZE];

    must(gt_sha256(NULL, 0, label + 20) == 0);
    hmac(zeros, psk, sizeof(psk), early);
    hmac(early, label, sizeof(label) - 1, binder_key);
    hmac(binder_key, finished, sizeof(finished) - 1, finished_key);
    must(gt_sha256(&hello, 1, hash) == 0);
    hmac(finished_key, hash, sizeof(hash), ret);
}

static void check_parts(struct gt_span bytes, const struct gt_client_hello *hello)
{
    struct gt_client_hello ignored;

    must(hello->message.data == bytes.data + 5 && 5 + hello->message.n <= bytes.n);
    must(hello->identity.n > 0 && hello->identity.data > hello->message.data);
    must(hello->identity.data + hello->identity.n < hello->binder.data);
    must(hello->binder.n == GT_KEY_SIZE);
    must(hello->binder.data + hello->binder.n == hello->message.data + hello->message.n);
    for (size_t n = 0; n < 5 + hello->message.n; n++)
        must(gt_client_hello_parse(gt_span(bytes.data, n), &ignored) == GT_CLIENT_HELLO_E_AGAIN);
}

/* @hello is in @bytes, and its binder is valid. */
static void check_bit(uint8_t *bytes, const struct gt_client_hello *hello, size_t bit)
{
    size_t n = 5 + hello->message.n;
    struct gt_client_hello changed;

    bit = 8 * 5 + bit % (8 * hello->message.n);
    bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    must(gt_client_hello_parse(gt_span(bytes, n), &changed) ||
         !gt_client_hello_proves(&changed, psk));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct gt_reader r = gt_reader(data, n);
    size_t bit = gt_read_u16(&r);
    struct gt_span sent = gt_read_bytes(&r, GT_MIN(r.left, (size_t)GT_CLIENT_HELLO_RECORD_MAX));
    struct gt_client_hello hello;
    uint8_t expected[GT_KEY_SIZE];
    uint8_t *bytes = malloc(sent.n + 1); /* of its own, so that sanitizers see its end */

    must(bytes != NULL);
    memcpy(bytes, sent.data, sent.n);
    if (gt_client_hello_parse(gt_span(bytes, sent.n), &hello) == 0) {
        check_parts(gt_span(bytes, sent.n), &hello);
        expected_binder(gt_span(hello.message.data, hello.message.n - LIST_SIZE), expected);
        must(gt_client_hello_proves(&hello, psk) ==
             (memcmp(hello.binder.data, expected, GT_KEY_SIZE) == 0));
        memcpy(bytes + (hello.binder.data - bytes), expected, GT_KEY_SIZE);
        must(gt_client_hello_proves(&hello, psk));
        check_bit(bytes, &hello, bit);
    }
    free(bytes);
    return 0;
}
