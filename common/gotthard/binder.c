/* SPDX-License-Identifier: ISC */
/*
 * The first three steps of TLS 1.3's key schedule (RFC 8446, section 7.1), as far as the binder of
 * an external PSK needs them. The binders are the last thing in a ClientHello, and what they sign
 * is all of it before their list.
 */
#include "gotthard/binder.h"

#define LIST_SIZE (2 + 1 + GT_KEY_SIZE) /* of binders: its length, then one with its length */

/* HKDF-Expand-Label(secret, label, context, 32). */
static int expand_label(const uint8_t secret[static GT_KEY_SIZE], const char *label,
                        struct gt_span context, uint8_t ret[static GT_KEY_SIZE])
{
    uint8_t info[64];
    struct gt_writer w = gt_writer(info, sizeof(info));
    gt_write_u16(&w, GT_KEY_SIZE);
    gt_write_u8(&w, (uint8_t)(6 + strlen(label)));
    gt_write_bytes(&w, "tls13 ", 6);
    gt_write_span(&w, gt_span_text(label));
    gt_write_u8(&w, (uint8_t)context.n);
    gt_write_span(&w, context);
    return w.failed ? -EINVAL : gt_hkdf_expand(secret, gt_span(info, w.n), ret, GT_KEY_SIZE);
}

static int finished_key(const uint8_t psk[static GT_KEY_SIZE], uint8_t ret[static GT_KEY_SIZE])
{
    static const uint8_t zeros[GT_KEY_SIZE];
    uint8_t early[GT_KEY_SIZE], nothing[GT_KEY_SIZE], binder[GT_KEY_SIZE];
    int r = gt_hkdf_extract(gt_span(zeros, sizeof(zeros)), gt_span(psk, GT_KEY_SIZE), early);
    if (r == 0)
        r = gt_sha256(NULL, 0, nothing);
    if (r == 0)
        r = expand_label(early, "ext binder", gt_span(nothing, sizeof(nothing)), binder);
    if (r == 0)
        r = expand_label(binder, "finished", gt_span("", 0), ret);
    gt_wipe(early, sizeof(early));
    gt_wipe(binder, sizeof(binder));
    return r;
}

bool gt_binder_fits(struct gt_span hello, const uint8_t psk[static GT_KEY_SIZE])
{
    uint8_t key[GT_KEY_SIZE], hash[GT_KEY_SIZE], binder[GT_KEY_SIZE];
    if (hello.n <= LIST_SIZE)
        return false;
    struct gt_span signed_part = gt_span(hello.data, hello.n - LIST_SIZE);
    struct gt_reader r = gt_reader(hello.data + signed_part.n, LIST_SIZE);
    if (gt_read_u16(&r) != LIST_SIZE - 2 || gt_read_u8(&r) != GT_KEY_SIZE)
        return false;
    struct gt_span transcript = gt_span(hash, sizeof(hash));
    bool is_made = finished_key(psk, key) == 0 && gt_sha256(&signed_part, 1, hash) == 0 &&
                   gt_hmac(gt_span(key, sizeof(key)), &transcript, 1, binder) == 0;
    gt_wipe(key, sizeof(key));
    return is_made && gt_is_equal(binder, r.at, GT_KEY_SIZE);
}
