/* SPDX-License-Identifier: ISC */
/*
 * Ed25519 over the EVP interface. The error queue of the thread stays empty, because the TLS code
 * evaluates it.
 */
#include "gotthard/crypto/ed25519.h"

#include <openssl/err.h>
#include <openssl/evp.h>

static int libcrypto_failed(void)
{
    bool is_memory = ERR_GET_REASON(ERR_peek_last_error()) == ERR_R_MALLOC_FAILURE;

    ERR_clear_error();
    return is_memory ? -ENOMEM : -EIO;
}

int gt_ed25519_public(const uint8_t key[static GT_KEY_SIZE], uint8_t ret[static GT_KEY_SIZE])
{
    uint8_t public_key[GT_KEY_SIZE];
    size_t n = sizeof(public_key);
    EVP_PKEY *pkey = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, key, GT_KEY_SIZE);
    bool is_good =
        pkey && EVP_PKEY_get_raw_public_key(pkey, public_key, &n) == 1 && n == sizeof(public_key);

    EVP_PKEY_free(pkey);
    if (!is_good)
        return libcrypto_failed();
    memcpy(ret, public_key, sizeof(public_key));
    return 0;
}

int gt_ed25519_sign(const uint8_t key[static GT_KEY_SIZE], struct gt_span message,
                    uint8_t ret[static GT_ED25519_SIGNATURE_SIZE])
{
    size_t n = GT_ED25519_SIGNATURE_SIZE;
    EVP_PKEY *pkey = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, key, GT_KEY_SIZE);
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    bool is_good = pkey && md && EVP_DigestSignInit(md, NULL, NULL, NULL, pkey) == 1 &&
                   EVP_DigestSign(md, ret, &n, message.data, message.n) == 1 &&
                   n == GT_ED25519_SIGNATURE_SIZE;

    EVP_MD_CTX_free(md);
    EVP_PKEY_free(pkey);
    return is_good ? 0 : libcrypto_failed();
}

int gt_ed25519_verify(const uint8_t public_key[static GT_KEY_SIZE], struct gt_span message,
                      const uint8_t signature[static GT_ED25519_SIGNATURE_SIZE])
{
    EVP_PKEY *pkey = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, public_key, GT_KEY_SIZE);
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    bool is_ready = pkey && md && EVP_DigestVerifyInit(md, NULL, NULL, NULL, pkey) == 1;
    bool is_good = is_ready && EVP_DigestVerify(md, signature, GT_ED25519_SIGNATURE_SIZE,
                                                message.data, message.n) == 1;

    EVP_MD_CTX_free(md);
    EVP_PKEY_free(pkey);
    if (!is_ready)
        return libcrypto_failed();
    ERR_clear_error(); /* of a wrong signature */
    return is_good ? 0 : GT_CRYPTO_E_BAD;
}
