/* SPDX-License-Identifier: ISC */
/*
 * The cryptographic computations of an exchange, the same code for both sides. They must not depend
 * on any policy: authorization is decided in initiator.c and responder.c.
 */
#include "gotthard/signaling/key-agreement.h"
#include "gotthard/signaling/topic.h"

/* ad || req_id || gy */
#define ACK_AD_MAX (GT_MESSAGE_HEADER + 2 + GT_TOPIC_MAX + GT_REQ_ID_SIZE + GT_KEY_SIZE)

int gt_key_agreement_derive(struct gt_key_agreement *agreement,
                            const uint8_t own[static GT_KEY_SIZE],
                            const uint8_t other[static GT_KEY_SIZE])
{
    uint8_t shared[GT_KEY_SIZE];
    int r = gt_x25519(own, other, shared);

    if (r == 0)
        r = gt_hkdf_extract(gt_span(agreement->mix, GT_KEY_SIZE), gt_span(shared, sizeof(shared)),
                            agreement->prk);
    gt_wipe(shared, sizeof(shared));
    return r;
}

static bool ad_write(const struct gt_key_agreement *agreement, struct gt_writer *w)
{
    gt_message_ad(GT_MESSAGE_ACK, agreement->topic, w);
    gt_write_bytes(w, agreement->id, sizeof(agreement->id));
    gt_write_bytes(w, agreement->gy, sizeof(agreement->gy));
    return !w->failed;
}

int gt_key_agreement_seal(const struct gt_key_agreement *agreement, struct gt_span inner,
                          uint8_t *ret, size_t *ret_n)
{
    uint8_t ad[ACK_AD_MAX], keyiv[GT_KEYIV];
    struct gt_writer ad_writer = gt_writer(ad, sizeof(ad));

    if (inner.n > GT_MESSAGE_MAX - GT_ACK_HEADER - GT_TAG_SIZE || !ad_write(agreement, &ad_writer))
        return GT_MESSAGE_E_BAD;
    int r = gt_key_ack(agreement->prk, agreement->th1, agreement->gy, keyiv);
    if (r == 0)
        r = gt_aead_seal(keyiv, gt_span(ad, ad_writer.n), inner, ret + GT_ACK_HEADER);
    gt_wipe(keyiv, sizeof(keyiv));
    if (r)
        return r;
    struct gt_writer w = gt_writer(ret, GT_ACK_HEADER);
    gt_message_header(GT_MESSAGE_ACK, &w);
    gt_write_bytes(&w, agreement->id, sizeof(agreement->id));
    gt_write_bytes(&w, agreement->gy, sizeof(agreement->gy));
    *ret_n = GT_ACK_HEADER + inner.n + GT_TAG_SIZE;
    return 0;
}

int gt_key_agreement_open(const struct gt_key_agreement *agreement, struct gt_span ack,
                          uint8_t *ret_inner, size_t *ret_n)
{
    uint8_t ad[ACK_AD_MAX], keyiv[GT_KEYIV];
    struct gt_writer ad_writer = gt_writer(ad, sizeof(ad));

    if (ack.n < GT_ACK_HEADER || !ad_write(agreement, &ad_writer))
        return GT_MESSAGE_E_BAD;
    struct gt_span box = gt_span(ack.data + GT_ACK_HEADER, ack.n - GT_ACK_HEADER);
    int r = gt_key_ack(agreement->prk, agreement->th1, agreement->gy, keyiv);
    if (r == 0)
        r = gt_aead_open(keyiv, gt_span(ad, ad_writer.n), box, ret_inner);
    gt_wipe(keyiv, sizeof(keyiv));
    if (r == 0)
        *ret_n = box.n - GT_TAG_SIZE;
    return r;
}

int gt_key_agreement_session(const struct gt_key_agreement *agreement, struct gt_span ack,
                             struct gt_session_keys *ret)
{
    uint8_t th2[GT_KEY_SIZE];
    struct gt_span parts[] = {gt_span(agreement->th1, sizeof(agreement->th1)), ack};
    int r = gt_sha256(parts, GT_ARRAY_SIZE(parts), th2);

    return r ? r : gt_key_session(agreement->prk, th2, ret);
}
