/* SPDX-License-Identifier: ISC */
/*
 * The key schedule, and the texts that keys come as. All derivations of the protocol are in this
 * file, one line each, so that they can be read beside docs/protocol.md, section 1. A key never
 * leaves through an error message, and whatever was only needed on the way is wiped.
 */
#include "gotthard/key.h"

#include <strings.h>

#define PASSPHRASE_MIN  20
#define IV_TEXT_MIN     8
#define IV_TEXT_MAX     64
#define DEVICE_MATERIAL (2 * GT_KEY_SIZE) /* K_dev || K_rc */

static const struct gt_span no_context = {(const uint8_t *)"", 0};
static const uint8_t zeros[DEVICE_MATERIAL];

const char *gt_key_strerror(int condition)
{
    switch (condition) {
    case GT_KEY_E_SYNTAX:
        return "the key is neither 64 hex digits, 32 bytes of base64, a gk1 string, nor a "
               "passphrase of 20 to 511 printable characters";
    case GT_KEY_E_ZERO: return "the key is all zeros";
    case GT_KEY_E_SAME: return "the key and the IV are the same";
    case GT_KEY_E_IV:
        return "the IV is missing, or neither 32 hex digits, 16 bytes of base64, nor 8 to 64 "
               "printable characters";
    case GT_KEY_E_NOT_HELD: return "this kind of key does not hold what is asked of it";
    }
    return "unknown condition of a key";
}

/* --- what an operator configures --------------------------------------------------------- */

/* Control characters mean a file with a line too many, or no text at all. */
static bool is_printable(const char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            return false;
    return true;
}

/* UTF-8 characters, so that 20 means the same in every language. */
static size_t count_characters(const char *text)
{
    size_t n = 0;
    for (; *text; text++)
        n += ((unsigned char)*text & 0xc0) != 0x80;
    return n;
}

static bool decode_base64(struct gt_span text, uint8_t *ret, size_t n)
{
    uint8_t bytes[DEVICE_MATERIAL + 3];
    size_t n_bytes = 0;
    bool is_good = gt_text_unbase64(text, bytes, sizeof(bytes), &n_bytes) == 0 && n_bytes == n;
    if (is_good)
        memcpy(ret, bytes, n);
    gt_wipe(bytes, sizeof(bytes));
    return is_good;
}

/* 64 hex digits, or 43-44 base64 characters. */
static bool decode_key(const char *text, uint8_t ret[static GT_KEY_SIZE])
{
    size_t n = strlen(text);
    if (n == 2 * GT_KEY_SIZE)
        return gt_text_unhex(text, ret, GT_KEY_SIZE) == 0;
    return (n == 43 || n == 44) && decode_base64(gt_span(text, n), ret, GT_KEY_SIZE);
}

static int decode_iv(const char *text, uint8_t ret[static IV_TEXT_MAX], size_t *ret_n)
{
    size_t n = text ? strlen(text) : 0;
    if (n < IV_TEXT_MIN || n > IV_TEXT_MAX || !is_printable(text))
        return GT_KEY_E_IV;
    *ret_n = 16;
    if (n == 32 && gt_text_unhex(text, ret, 16) == 0)
        return 0;
    if (n >= 22 && n <= 24 && decode_base64(gt_span(text, n), ret, 16))
        return 0;
    memcpy(ret, text, n);
    *ret_n = n;
    return 0;
}

static int make_salt(const char *iv_text, uint8_t ret[static GT_KEY_SIZE])
{
    uint8_t iv[IV_TEXT_MAX];
    size_t n = 0;
    int r = decode_iv(iv_text, iv, &n);
    if (r)
        return r;
    struct gt_span parts[] = {gt_span_text("gotthard/1 salt"), gt_span(iv, n)};
    return gt_sha256(parts, GT_ARRAY_SIZE(parts), ret);
}

static bool is_same(const char *text, const uint8_t *ikm, const char *iv)
{
    uint8_t as_key[GT_KEY_SIZE];
    return strcasecmp(text, iv) == 0 ||
           (ikm && decode_key(iv, as_key) && gt_is_equal(as_key, ikm, sizeof(as_key)));
}

static int decode_passphrase(const char *text, const uint8_t *salt, uint8_t ret[static GT_KEY_SIZE])
{
    size_t n = strlen(text);
    if (count_characters(text) < PASSPHRASE_MIN || n >= GT_KEY_TEXT_MAX || !is_printable(text))
        return GT_KEY_E_SYNTAX;
    if (strspn(text, "0") == n)
        return GT_KEY_E_ZERO;
    return gt_scrypt(gt_span(text, n), gt_span(salt, GT_KEY_SIZE), ret);
}

static int parse_master(const char *text, const char *iv, struct gt_key *key)
{
    uint8_t ikm[GT_KEY_SIZE] = {0}, salt[GT_KEY_SIZE];
    int r = make_salt(iv, salt);
    if (r)
        return r;
    key->is_passphrase = !decode_key(text, ikm);
    if (is_same(text, key->is_passphrase ? NULL : ikm, iv))
        r = GT_KEY_E_SAME;
    else if (key->is_passphrase)
        r = decode_passphrase(text, salt, ikm);
    else if (gt_is_equal(ikm, zeros, sizeof(ikm)))
        r = GT_KEY_E_ZERO;
    if (r == 0)
        r = gt_hkdf_extract(gt_span(salt, sizeof(salt)), gt_span(ikm, sizeof(ikm)), key->master);
    if (r == 0)
        r = gt_hkdf_label(key->master, "relay", no_context, key->relay, sizeof(key->relay));
    key->kind = GT_KEY_MASTER;
    gt_wipe(ikm, sizeof(ikm));
    return r;
}

static int parse_relay(const char *text, struct gt_key *key)
{
    key->kind = GT_KEY_RELAY;
    if (!decode_base64(gt_span_text(text), key->relay, GT_KEY_SIZE))
        return GT_KEY_E_SYNTAX;
    return gt_is_equal(key->relay, zeros, GT_KEY_SIZE) ? GT_KEY_E_ZERO : 0;
}

/* A name may have dots, base64 has none: the last one divides. */
static int parse_device(const char *text, struct gt_key *key)
{
    const char *dot = strrchr(text, '.');
    uint8_t material[DEVICE_MATERIAL];
    if (!dot || !gt_text_is_name(gt_span(text, (size_t)(dot - text))) ||
        !decode_base64(gt_span_text(dot + 1), material, sizeof(material)))
        return GT_KEY_E_SYNTAX;
    key->kind = GT_KEY_DEVICE;
    memcpy(key->device, text, (size_t)(dot - text));
    memcpy(key->of_device, material, GT_KEY_SIZE);
    memcpy(key->client, material + GT_KEY_SIZE, GT_KEY_SIZE);
    gt_wipe(material, sizeof(material));
    bool is_zero = gt_is_equal(key->of_device, zeros, GT_KEY_SIZE) ||
                   gt_is_equal(key->client, zeros, GT_KEY_SIZE);
    return is_zero ? GT_KEY_E_ZERO : 0;
}

int gt_key_parse(const char *text, const char *iv, struct gt_key *ret_key)
{
    struct gt_key key = {0};
    int r;
    if (strncmp(text, "gk1r.", 5) == 0)
        r = parse_relay(text + 5, &key);
    else if (strncmp(text, "gk1d.", 5) == 0)
        r = parse_device(text + 5, &key);
    else if (strncmp(text, "gk1", 3) == 0) /* a kind of later, or a slip: never a passphrase */
        r = GT_KEY_E_SYNTAX;
    else
        r = parse_master(text, iv, &key);
    if (r == 0)
        *ret_key = key;
    gt_key_wipe(&key);
    return r;
}

void gt_key_wipe(struct gt_key *key)
{
    gt_wipe(key, sizeof(*key));
}

/* --- what an operator hands out ---------------------------------------------------------- */

static int format_material(const char *prefix, const void *material, size_t n, char *ret_text)
{
    size_t n_prefix = strlen(prefix);
    memcpy(ret_text, prefix, n_prefix);
    return gt_text_base64(material, n, true, ret_text + n_prefix, GT_KEY_TEXT_MAX - n_prefix)
               ? -EOVERFLOW
               : 0;
}

int gt_key_format_relay(const struct gt_key *key, char *ret_text)
{
    if (key->kind != GT_KEY_MASTER)
        return GT_KEY_E_NOT_HELD;
    return format_material("gk1r.", key->relay, sizeof(key->relay), ret_text);
}

int gt_key_format_device(const struct gt_key *key, const char *device, char *ret_text)
{
    uint8_t material[DEVICE_MATERIAL];
    char prefix[sizeof("gk1d.") + GT_NAME_MAX + sizeof(".")];
    if (key->kind != GT_KEY_MASTER)
        return GT_KEY_E_NOT_HELD;
    int r = gt_key_device(key, device, material);
    if (r == 0)
        r = gt_key_client(key, GT_ROLE_DEVICE, device, material + GT_KEY_SIZE);
    if (r == 0) {
        stpcpy(stpcpy(stpcpy(prefix, "gk1d."), device), ".");
        r = format_material(prefix, material, sizeof(material), ret_text);
    }
    gt_wipe(material, sizeof(material));
    return r;
}

/* --- the schedule ------------------------------------------------------------------------ */

int gt_key_device(const struct gt_key *key, const char *device, uint8_t ret[static GT_KEY_SIZE])
{
    uint8_t context[2 + GT_NAME_MAX];
    struct gt_writer w = gt_writer(context, sizeof(context));
    if (!gt_text_is_name(gt_span_text(device)))
        return GT_KEY_E_SYNTAX;
    if (key->kind == GT_KEY_DEVICE && strcmp(key->device, device) == 0) {
        memcpy(ret, key->of_device, GT_KEY_SIZE);
        return 0;
    }
    if (key->kind != GT_KEY_MASTER)
        return GT_KEY_E_NOT_HELD;
    gt_write_string(&w, device);
    return gt_hkdf_label(key->master, "device", gt_span(context, w.n), ret, GT_KEY_SIZE);
}

int gt_key_client(const struct gt_key *key, enum gt_role role, const char *name,
                  uint8_t ret[static GT_KEY_SIZE])
{
    uint8_t context[1 + 2 + GT_NAME_MAX];
    struct gt_writer w = gt_writer(context, sizeof(context));
    if (!gt_text_is_name(gt_span_text(name)))
        return GT_KEY_E_SYNTAX;
    if (key->kind == GT_KEY_DEVICE) {
        if (role != GT_ROLE_DEVICE || strcmp(key->device, name) != 0)
            return GT_KEY_E_NOT_HELD;
        memcpy(ret, key->client, GT_KEY_SIZE);
        return 0;
    }
    gt_write_u8(&w, (uint8_t)role);
    gt_write_string(&w, name);
    return gt_hkdf_label(key->relay, "relay-client", gt_span(context, w.n), ret, GT_KEY_SIZE);
}

void gt_key_identity(enum gt_role role, const char *name, char *ret)
{
    char *end = stpcpy(ret, role == GT_ROLE_OPERATOR ? "g1:o:" : "g1:d:");
    strncat(end, name, GT_NAME_MAX);
}

bool gt_key_parse_identity(struct gt_span identity, enum gt_role *ret_role, char *ret_name)
{
    struct gt_reader r = gt_reader(identity.data, identity.n);
    struct gt_span form = gt_read_bytes(&r, 5), name = gt_read_bytes(&r, r.left);
    bool is_operator = gt_span_equals(form, gt_span_text("g1:o:"));
    if (!is_operator && !gt_span_equals(form, gt_span_text("g1:d:")))
        return false;
    if (!gt_text_is_name(name))
        return false;
    *ret_role = is_operator ? GT_ROLE_OPERATOR : GT_ROLE_DEVICE;
    memcpy(ret_name, name.data, name.n);
    ret_name[name.n] = 0;
    return true;
}

int gt_key_messages(const uint8_t of_device[static GT_KEY_SIZE], struct gt_message_keys *ret)
{
    struct gt_message_keys keys;
    int r = gt_hkdf_label(of_device, "mqtt o2d", no_context, keys.req, GT_KEY_SIZE);
    if (r == 0)
        r = gt_hkdf_label(of_device, "nak", no_context, keys.nak, GT_KEY_SIZE);
    if (r == 0)
        r = gt_hkdf_label(of_device, "presence", no_context, keys.presence, GT_KEY_SIZE);
    if (r == 0)
        r = gt_hkdf_label(of_device, "mix", no_context, keys.mix, GT_KEY_SIZE);
    if (r == 0)
        *ret = keys;
    gt_wipe(&keys, sizeof(keys));
    return r;
}

int gt_key_ack(const uint8_t prk[static GT_KEY_SIZE], const uint8_t th1[static GT_KEY_SIZE],
               const uint8_t gy[static GT_KEY_SIZE], uint8_t ret_keyiv[static GT_KEYIV])
{
    uint8_t context[2 * GT_KEY_SIZE];
    memcpy(context, th1, GT_KEY_SIZE);
    memcpy(context + GT_KEY_SIZE, gy, GT_KEY_SIZE);
    return gt_hkdf_label(prk, "ack", gt_span(context, sizeof(context)), ret_keyiv, GT_KEYIV);
}

int gt_key_session(const uint8_t prk[static GT_KEY_SIZE], const uint8_t th2[static GT_KEY_SIZE],
                   struct gt_session_keys *ret)
{
    struct gt_session_keys keys;
    struct gt_span context = gt_span(th2, GT_KEY_SIZE);
    int r = gt_hkdf_label(prk, "session", context, keys.session, GT_KEY_SIZE);
    if (r == 0)
        r = gt_hkdf_label(prk, "rendezvous", context, keys.rid, GT_RID_SIZE);
    if (r == 0)
        *ret = keys;
    gt_wipe(&keys, sizeof(keys));
    return r;
}

int gt_key_stream(const uint8_t session[static GT_KEY_SIZE], uint32_t stream, uint32_t attempt,
                  struct gt_stream_psk *ret)
{
    struct gt_stream_psk keys;
    uint8_t numbers[8];
    struct gt_writer w = gt_writer(numbers, sizeof(numbers));
    gt_write_u32(&w, stream);
    gt_write_u32(&w, attempt);
    struct gt_span context = gt_span(numbers, sizeof(numbers));
    int r = gt_hkdf_label(session, "stream", context, keys.psk, GT_KEY_SIZE);
    if (r == 0)
        r = gt_hkdf_label(session, "stream-id", context, keys.id, GT_STREAM_ID_SIZE);
    if (r == 0)
        *ret = keys;
    gt_wipe(&keys, sizeof(keys));
    return r;
}
