/* SPDX-License-Identifier: ISC */
/*
 * SEAL over the primitives of crypto.c. The nonce is neither random nor counted: it is derived from
 * the salt, and the salt from 32 random bytes and the message itself. Plaintext is written only
 * after its tag was verified.
 */
#include "gotthard/crypto/seal.h"

#define SALT_SIZE GT_KEY_SIZE

static int seal_salt(const uint8_t *key, struct gt_span ad, struct gt_span pt, uint8_t *ret_salt)
{
    uint8_t salt_key[GT_KEY_SIZE], random[GT_KEY_SIZE] = {0};
    uint8_t length[2] = {(uint8_t)(ad.n >> 8), (uint8_t)ad.n};
    struct gt_span parts[] = {gt_span(random, sizeof(random)), gt_span(length, sizeof(length)), ad,
                              pt};

    int r = gt_hkdf_label(key, "salt key", gt_span("", 0), salt_key, sizeof(salt_key));
    if (r == 0)
        r = gt_random(random, sizeof(random));
    if (r == 0)
        r = gt_hmac(gt_span(salt_key, sizeof(salt_key)), parts, GT_ARRAY_SIZE(parts), ret_salt);
    gt_wipe(salt_key, sizeof(salt_key));
    gt_wipe(random, sizeof(random));
    return r;
}

int gt_seal(const uint8_t key[static GT_KEY_SIZE], struct gt_span ad, struct gt_span pt,
            uint8_t *ret)
{
    uint8_t salt[SALT_SIZE], keyiv[GT_KEYIV];

    if (ad.n > UINT16_MAX)
        return GT_CRYPTO_E_BAD;
    int r = seal_salt(key, ad, pt, salt);
    if (r == 0)
        r = gt_hkdf_label(key, "seal", gt_span(salt, sizeof(salt)), keyiv, sizeof(keyiv));
    if (r == 0)
        r = gt_aead_seal(keyiv, ad, pt, ret + SALT_SIZE);
    if (r == 0)
        memcpy(ret, salt, sizeof(salt));
    gt_wipe(keyiv, sizeof(keyiv));
    return r;
}

int gt_unseal(const uint8_t key[static GT_KEY_SIZE], struct gt_span ad, struct gt_span sealed,
              uint8_t *ret)
{
    uint8_t keyiv[GT_KEYIV];

    if (sealed.n < GT_SEAL_OVERHEAD || ad.n > UINT16_MAX)
        return GT_CRYPTO_E_BAD;
    int r = gt_hkdf_label(key, "seal", gt_span(sealed.data, SALT_SIZE), keyiv, sizeof(keyiv));
    if (r == 0)
        r = gt_aead_open(keyiv, ad, gt_span(sealed.data + SALT_SIZE, sealed.n - SALT_SIZE), ret);
    gt_wipe(keyiv, sizeof(keyiv));
    return r;
}
