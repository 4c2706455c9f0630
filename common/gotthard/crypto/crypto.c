/* SPDX-License-Identifier: ISC */
/*
 * Primitives over the EVP interface of libcrypto. Each function fetches, uses and frees its
 * objects, so that there is no global state. It performs the checks that OpenSSL 3.0 leaves to its
 * caller: empty keys, low-order points, and the tag before any plaintext is returned. The error
 * queue of the thread stays empty, because the TLS code evaluates it.
 */
#include "gotthard/crypto/crypto.h"

#include <limits.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/decoder.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/rand.h>

#include "gotthard/crypto/crypto-start.h"

static int crypto_failed(void)
{
    bool is_memory = ERR_GET_REASON(ERR_peek_last_error()) == ERR_R_MALLOC_FAILURE;

    ERR_clear_error();
    return is_memory ? -ENOMEM : -EIO;
}

static int crypto_bad(void)
{
    ERR_clear_error();
    return GT_CRYPTO_E_BAD;
}

#define HAS(kind, name)                             \
    ({                                              \
        kind *got = kind##_fetch(NULL, name, NULL); \
        kind##_free(got);                           \
        got != NULL;                                \
    })

/* The first use of a kind initializes all of its algorithms. */
static bool use_libcrypto(void)
{
    return OSSL_LIB_CTX_get0_global_default() && HAS(EVP_MD, "SHA256") && HAS(EVP_MD, "SHA384") &&
           HAS(EVP_CIPHER, "AES-128-GCM") && HAS(EVP_CIPHER, "AES-256-GCM") &&
           HAS(EVP_MAC, "HMAC") && HAS(EVP_KDF, "HKDF") && HAS(EVP_KDF, "TLS13-KDF") &&
           HAS(EVP_RAND, "CTR-DRBG") && HAS(EVP_KEYMGMT, "X25519") && HAS(EVP_KEYMGMT, "EC") &&
           HAS(EVP_KEYMGMT, "RSA") && HAS(EVP_KEYEXCH, "X25519") && HAS(EVP_KEYEXCH, "ECDH") &&
           HAS(EVP_SIGNATURE, "ECDSA") && HAS(EVP_SIGNATURE, "RSA") &&
           HAS(EVP_ASYM_CIPHER, "RSA") && HAS(EVP_KEM, "RSA") && HAS(OSSL_DECODER, "EC");
}

__attribute__((constructor)) static void crypto_init(void)
{
    gt_crypto_first_use(use_libcrypto);
}

void gt_wipe(void *data, size_t n)
{
    OPENSSL_cleanse(data, n);
}

bool gt_is_equal(const void *a, const void *b, size_t n)
{
    return CRYPTO_memcmp(a, b, n) == 0;
}

int gt_random(void *ret, size_t n)
{
    if (n > INT_MAX || RAND_priv_bytes(ret, (int)n) != 1)
        return crypto_failed();
    return 0;
}

static bool digest_parts(EVP_MD_CTX *md, const struct gt_span *parts, size_t n_parts, uint8_t *ret)
{
    if (EVP_DigestInit_ex(md, EVP_sha256(), NULL) != 1)
        return false;
    for (size_t i = 0; i < n_parts; i++)
        if (EVP_DigestUpdate(md, parts[i].data, parts[i].n) != 1)
            return false;
    return EVP_DigestFinal_ex(md, ret, NULL) == 1;
}

int gt_sha256(const struct gt_span *parts, size_t n_parts, uint8_t ret[static GT_KEY_SIZE])
{
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    uint8_t hash[GT_KEY_SIZE];
    bool is_good = md && digest_parts(md, parts, n_parts, hash);

    EVP_MD_CTX_free(md);
    if (!is_good)
        return crypto_failed();
    memcpy(ret, hash, sizeof(hash));
    return 0;
}

static bool mac_parts(EVP_MAC_CTX *mac, struct gt_span key, const struct gt_span *parts,
                      size_t n_parts, uint8_t *ret)
{
    char digest[] = "SHA256";

    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end(),
    };
    const void *bytes = key.n ? key.data : (const void *)"";
    size_t n;

    if (EVP_MAC_init(mac, bytes, key.n, params) != 1)
        return false;
    for (size_t i = 0; i < n_parts; i++)
        if (parts[i].n && EVP_MAC_update(mac, parts[i].data, parts[i].n) != 1)
            return false;
    return EVP_MAC_final(mac, ret, &n, GT_KEY_SIZE) == 1 && n == GT_KEY_SIZE;
}

int gt_hmac(struct gt_span key, const struct gt_span *parts, size_t n_parts,
            uint8_t ret[static GT_KEY_SIZE])
{
    EVP_MAC *algorithm = EVP_MAC_fetch(NULL, "HMAC", NULL);
    EVP_MAC_CTX *mac = algorithm ? EVP_MAC_CTX_new(algorithm) : NULL;
    uint8_t hash[GT_KEY_SIZE];
    bool is_good = mac && mac_parts(mac, key, parts, n_parts, hash);

    EVP_MAC_CTX_free(mac);
    EVP_MAC_free(algorithm);
    if (!is_good)
        return crypto_failed();
    memcpy(ret, hash, sizeof(hash));
    gt_wipe(hash, sizeof(hash));
    return 0;
}

/* On failure, the content of @ret is undefined. */
static int kdf_derive(const char *name, const OSSL_PARAM *params, void *ret, size_t n)
{
    EVP_KDF *algorithm = EVP_KDF_fetch(NULL, name, NULL);
    EVP_KDF_CTX *kdf = algorithm ? EVP_KDF_CTX_new(algorithm) : NULL;
    bool is_good = kdf && EVP_KDF_derive(kdf, ret, n, params) == 1;

    EVP_KDF_CTX_free(kdf);
    EVP_KDF_free(algorithm);
    return is_good ? 0 : crypto_failed();
}

static OSSL_PARAM param_bytes(const char *key, struct gt_span span)
{
    return OSSL_PARAM_construct_octet_string(key, (void *)(uintptr_t)span.data, span.n);
}

static int hkdf(int mode, struct gt_span key, const char *context_param, struct gt_span context,
                void *ret, size_t n)
{
    char digest[] = "SHA256";

    OSSL_PARAM params[5] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &mode),
        param_bytes(OSSL_KDF_PARAM_KEY, key),
        OSSL_PARAM_construct_end(),
        OSSL_PARAM_construct_end(),
    };

    if (context.n)
        params[3] = param_bytes(context_param, context);
    return kdf_derive("HKDF", params, ret, n);
}

int gt_hkdf_extract(struct gt_span salt, struct gt_span ikm, uint8_t ret[static GT_KEY_SIZE])
{
    if (!ikm.n)
        return GT_CRYPTO_E_BAD;
    return hkdf(EVP_KDF_HKDF_MODE_EXTRACT_ONLY, ikm, OSSL_KDF_PARAM_SALT, salt, ret, GT_KEY_SIZE);
}

int gt_hkdf_expand(const uint8_t prk[static GT_KEY_SIZE], struct gt_span info, void *ret, size_t n)
{
    if (!n || n > 255 * GT_KEY_SIZE || info.n > 1024) /* RFC 5869, and the limit of libcrypto */
        return GT_CRYPTO_E_BAD;
    return hkdf(EVP_KDF_HKDF_MODE_EXPAND_ONLY, gt_span(prk, GT_KEY_SIZE), OSSL_KDF_PARAM_INFO, info,
                ret, n);
}

int gt_hkdf_label(const uint8_t key[static GT_KEY_SIZE], const char *label, struct gt_span context,
                  void *ret, size_t n)
{
    uint8_t info[384];
    struct gt_writer w = gt_writer(info, sizeof(info));

    gt_write_span(&w, gt_span_text("gotthard/1 "));
    gt_write_bytes(&w, label, strlen(label) + 1);
    gt_write_span(&w, context);
    if (w.failed || context.n > 256)
        return GT_CRYPTO_E_BAD;
    return gt_hkdf_expand(key, gt_span(info, w.n), ret, n);
}

int gt_hkdf_expand_label(const uint8_t secret[static GT_KEY_SIZE], const char *label,
                         struct gt_span context, void *ret, size_t n)
{
    uint8_t info[64];
    struct gt_writer w = gt_writer(info, sizeof(info));

    gt_write_u16(&w, (uint16_t)n);
    gt_write_u8(&w, (uint8_t)(6 + strlen(label)));
    gt_write_span(&w, gt_span_text("tls13 "));
    gt_write_span(&w, gt_span_text(label));
    gt_write_u8(&w, (uint8_t)context.n);
    gt_write_span(&w, context);
    return w.failed ? GT_CRYPTO_E_BAD : gt_hkdf_expand(secret, gt_span(info, w.n), ret, n);
}

int gt_scrypt(struct gt_span passphrase, struct gt_span salt, uint8_t ret[static GT_KEY_SIZE])
{
    uint64_t cost = 1 << 14;
    uint32_t block = 8, parallel = 1;

    if (!passphrase.n)
        return GT_CRYPTO_E_BAD;
    OSSL_PARAM params[] = {
        param_bytes(OSSL_KDF_PARAM_PASSWORD, passphrase),
        param_bytes(OSSL_KDF_PARAM_SALT, salt),
        OSSL_PARAM_construct_uint64(OSSL_KDF_PARAM_SCRYPT_N, &cost),
        OSSL_PARAM_construct_uint32(OSSL_KDF_PARAM_SCRYPT_R, &block),
        OSSL_PARAM_construct_uint32(OSSL_KDF_PARAM_SCRYPT_P, &parallel),
        OSSL_PARAM_construct_end(),
    };
    return kdf_derive("SCRYPT", params, ret, GT_KEY_SIZE);
}

int gt_x25519_public(const uint8_t key[static GT_KEY_SIZE], uint8_t ret[static GT_KEY_SIZE])
{
    uint8_t public[GT_KEY_SIZE];
    size_t n = sizeof(public);
    EVP_PKEY *pkey = EVP_PKEY_new_raw_private_key(EVP_PKEY_X25519, NULL, key, GT_KEY_SIZE);
    bool is_good = pkey && EVP_PKEY_get_raw_public_key(pkey, public, &n) == 1 && n == GT_KEY_SIZE;

    EVP_PKEY_free(pkey);
    if (!is_good)
        return crypto_failed();
    memcpy(ret, public, sizeof(public));
    return 0;
}

static int x25519_derive(EVP_PKEY *own, EVP_PKEY *peer, uint8_t *ret)
{
    static const uint8_t zero[GT_KEY_SIZE];
    uint8_t shared[GT_KEY_SIZE];
    size_t n = sizeof(shared);
    EVP_PKEY_CTX *pkey = EVP_PKEY_CTX_new(own, NULL);

    if (!pkey || EVP_PKEY_derive_init(pkey) != 1 || EVP_PKEY_derive_set_peer(pkey, peer) != 1) {
        EVP_PKEY_CTX_free(pkey);
        return crypto_failed();
    }
    /* libcrypto fails for a low-order point. The check for zeros does not depend on that. */
    bool is_good = EVP_PKEY_derive(pkey, shared, &n) == 1 && n == sizeof(shared) &&
                   !gt_is_equal(shared, zero, sizeof(zero));
    EVP_PKEY_CTX_free(pkey);
    if (is_good)
        memcpy(ret, shared, sizeof(shared));
    gt_wipe(shared, sizeof(shared));
    return is_good ? 0 : crypto_bad();
}

int gt_x25519(const uint8_t key[static GT_KEY_SIZE], const uint8_t peer[static GT_KEY_SIZE],
              uint8_t ret[static GT_KEY_SIZE])
{
    EVP_PKEY *own = EVP_PKEY_new_raw_private_key(EVP_PKEY_X25519, NULL, key, GT_KEY_SIZE);
    EVP_PKEY *other = EVP_PKEY_new_raw_public_key(EVP_PKEY_X25519, NULL, peer, GT_KEY_SIZE);
    int r = own && other ? x25519_derive(own, other, ret) : crypto_failed();

    EVP_PKEY_free(own);
    EVP_PKEY_free(other);
    return r;
}

/* Encrypts or decrypts with AES-256-GCM. @tag is written by the former, and read by the latter. */
static bool gcm_run(bool is_seal, const uint8_t *keyiv, struct gt_span ad, struct gt_span in,
                    uint8_t *out, uint8_t *tag)
{
    EVP_CIPHER *algorithm = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
    EVP_CIPHER_CTX *gcm = algorithm ? EVP_CIPHER_CTX_new() : NULL;
    int n = 0, n_last = 0;
    bool is_good =
        gcm && EVP_CipherInit_ex2(gcm, algorithm, keyiv, keyiv + GT_KEY_SIZE, is_seal, NULL) == 1 &&
        (is_seal || EVP_CIPHER_CTX_ctrl(gcm, EVP_CTRL_AEAD_SET_TAG, GT_TAG_SIZE, tag) == 1) &&
        (!ad.n || EVP_CipherUpdate(gcm, NULL, &n, ad.data, (int)ad.n) == 1);

    n = 0;
    is_good = is_good && (!in.n || EVP_CipherUpdate(gcm, out, &n, in.data, (int)in.n) == 1) &&
              (size_t)n == in.n && EVP_CipherFinal_ex(gcm, out + n, &n_last) == 1 && n_last == 0 &&
              (!is_seal || EVP_CIPHER_CTX_ctrl(gcm, EVP_CTRL_AEAD_GET_TAG, GT_TAG_SIZE, tag) == 1);
    EVP_CIPHER_CTX_free(gcm);
    EVP_CIPHER_free(algorithm);
    return is_good;
}

int gt_aead_seal(const uint8_t keyiv[static GT_KEYIV], struct gt_span ad, struct gt_span pt,
                 uint8_t *ret)
{
    if (ad.n > INT_MAX || pt.n > INT_MAX - GT_TAG_SIZE)
        return GT_CRYPTO_E_BAD;
    if (!gcm_run(true, keyiv, ad, pt, ret, ret + pt.n))
        return crypto_failed();
    return 0;
}

int gt_aead_open(const uint8_t keyiv[static GT_KEYIV], struct gt_span ad, struct gt_span ct,
                 uint8_t *ret)
{
    uint8_t tag[GT_TAG_SIZE];

    if (ct.n < GT_TAG_SIZE || ct.n > INT_MAX || ad.n > INT_MAX)
        return GT_CRYPTO_E_BAD;
    size_t n = ct.n - GT_TAG_SIZE;
    /* Decrypt to other memory: unauthenticated plaintext must never reach the caller. */
    uint8_t *plaintext = malloc(n + 1);
    if (!plaintext)
        return -ENOMEM;
    memcpy(tag, ct.data + n, sizeof(tag));
    bool is_good = gcm_run(false, keyiv, ad, gt_span(ct.data, n), plaintext, tag);
    if (is_good)
        memcpy(ret, plaintext, n);
    gt_wipe(plaintext, n);
    free(plaintext);
    return is_good ? 0 : crypto_bad();
}
