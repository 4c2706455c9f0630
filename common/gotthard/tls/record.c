/* SPDX-License-Identifier: ISC */
/*
 * Keys, nonces, encryption and decryption of records. A record's plaintext is its content, one byte
 * with the type, and optional padding. The header is authenticated as additional data. A nonce is
 * never used twice with a key: it is the number of the record, which only increases.
 */
#include "gotthard/tls/record.h"

#include <assert.h>
#include <openssl/evp.h>

static const EVP_CIPHER *cipher_of(enum gt_record_suite suite)
{
    switch (suite) {
    case GT_RECORD_AES128: return EVP_aes_128_gcm();
    case GT_RECORD_CHACHA20: return EVP_chacha20_poly1305();
    }
    return NULL;
}

/* HKDF-Expand-Label with an empty context. */
static int expand(const uint8_t secret[static GT_KEY_SIZE], const char *label, uint8_t *ret,
                  size_t n)
{
    return gt_hkdf_expand_label(secret, label, gt_span("", 0), ret, n);
}

/* Derives key and IV from the current secret. */
static int record_set_key(struct gt_record *record)
{
    uint8_t key[GT_KEY_SIZE];
    size_t n_key = (size_t)EVP_CIPHER_get_key_length(cipher_of(record->suite));

    int r = expand(record->secret, "key", key, n_key);
    if (r == 0)
        r = expand(record->secret, "iv", record->iv, sizeof(record->iv));
    if (r == 0 && EVP_CipherInit_ex(record->cipher, NULL, NULL, key, NULL, -1) != 1)
        r = -EIO;
    gt_wipe(key, sizeof(key));
    record->n_records = 0;
    return r;
}

int gt_record_init(struct gt_record *record, enum gt_record_suite suite,
                   const uint8_t secret[static GT_KEY_SIZE], bool is_sealing)
{
    *record = (struct gt_record){.suite = suite, .is_sealing = is_sealing};
    memcpy(record->secret, secret, GT_KEY_SIZE);
    record->cipher = EVP_CIPHER_CTX_new();
    if (!record->cipher ||
        EVP_CipherInit_ex(record->cipher, cipher_of(suite), NULL, NULL, NULL, is_sealing) != 1)
        return -ENOMEM;
    return record_set_key(record);
}

void gt_record_deinit(struct gt_record *record)
{
    EVP_CIPHER_CTX_free(record->cipher);
    gt_wipe(record, sizeof(*record));
}

int gt_record_update(struct gt_record *record)
{
    uint8_t next[GT_KEY_SIZE];

    int r = expand(record->secret, "traffic upd", next, sizeof(next));
    if (r == 0) {
        memcpy(record->secret, next, sizeof(next));
        r = record_set_key(record);
    }
    gt_wipe(next, sizeof(next));
    return r;
}

/* Sets up the cipher for the next record, with @header as additional data. */
static bool record_begin(struct gt_record *record, const uint8_t *header)
{
    uint8_t nonce[GT_GCM_IV];
    int n;

    memcpy(nonce, record->iv, sizeof(nonce));
    for (int i = 0; i < 8; i++)
        nonce[4 + i] ^= (uint8_t)(record->n_records >> (56 - 8 * i));
    record->n_records++;
    return EVP_CipherInit_ex(record->cipher, NULL, NULL, NULL, nonce, -1) == 1 &&
           EVP_CipherUpdate(record->cipher, NULL, &n, header, GT_RECORD_HEADER) == 1;
}

int gt_record_seal(struct gt_record *record, enum gt_record_type type, const struct gt_span *parts,
                   size_t n_parts, uint8_t *ret)
{
    const uint8_t inner = (uint8_t)type;
    size_t n = 0;

    for (size_t i = 0; i < n_parts; i++)
        n += parts[i].n;
    assert(record->is_sealing && n <= GT_RECORD_MAX);
    struct gt_writer w = gt_writer(ret, n + GT_RECORD_OVERHEAD);
    gt_write_u8(&w, GT_RECORD_DATA);
    gt_write_u16(&w, 0x0303);
    gt_write_u16(&w, (uint16_t)(n + 1 + GT_TAG_SIZE));
    if (!record_begin(record, ret))
        return -EIO;
    uint8_t *at = ret + GT_RECORD_HEADER;
    int n_out;
    for (size_t i = 0; i < n_parts; i++, at += n_out)
        if (EVP_EncryptUpdate(record->cipher, at, &n_out, parts[i].data, (int)parts[i].n) != 1)
            return -EIO;
    if (EVP_EncryptUpdate(record->cipher, at, &n_out, &inner, 1) != 1 ||
        EVP_EncryptFinal_ex(record->cipher, at + 1, &n_out) != 1 ||
        EVP_CIPHER_CTX_ctrl(record->cipher, EVP_CTRL_AEAD_GET_TAG, GT_TAG_SIZE, at + 1) != 1)
        return -EIO;
    return 0;
}

int gt_record_size(const uint8_t header[static GT_RECORD_HEADER], size_t *ret)
{
    size_t n = (size_t)header[3] << 8 | header[4];

    if (header[0] != GT_RECORD_DATA || header[1] != 3 || n <= GT_TAG_SIZE ||
        n > GT_RECORD_SIZE - GT_RECORD_HEADER)
        return GT_RECORD_E_BAD;
    *ret = GT_RECORD_HEADER + n;
    return 0;
}

int gt_record_open(struct gt_record *record, const uint8_t *sealed, size_t n, uint8_t *ret,
                   size_t *ret_n, unsigned *ret_type)
{
    uint8_t tag[GT_TAG_SIZE];
    int n_inner = (int)gt_record_room(n), n_out;

    assert(!record->is_sealing && n > GT_RECORD_HEADER + GT_TAG_SIZE);
    memcpy(tag, sealed + n - GT_TAG_SIZE, GT_TAG_SIZE);
    if (!record_begin(record, sealed) ||
        EVP_DecryptUpdate(record->cipher, ret, &n_out, sealed + GT_RECORD_HEADER, n_inner) != 1 ||
        EVP_CIPHER_CTX_ctrl(record->cipher, EVP_CTRL_AEAD_SET_TAG, GT_TAG_SIZE, tag) != 1 ||
        EVP_DecryptFinal_ex(record->cipher, tag, &n_out) != 1)
        return GT_RECORD_E_BAD;
    while (n_inner > 0 && ret[n_inner - 1] == 0)
        n_inner--; /* padding */
    if (n_inner == 0 || (size_t)n_inner > GT_RECORD_MAX + 1)
        return GT_RECORD_E_BAD;
    *ret_n = (size_t)n_inner - 1;
    *ret_type = ret[n_inner - 1];
    return 0;
}
