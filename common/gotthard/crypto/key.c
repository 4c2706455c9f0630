/* SPDX-License-Identifier: ISC */
/*
 * The key schedule. All derivations of the protocol are in this file, one line
 * each, so that they can be compared with docs/protocol.md, section 1. An error message never
 * contains a part of a key, and intermediate values are wiped.
 */
#include "gotthard/crypto/key.h"

#include <strings.h>

#include "gotthard/crypto/key-text.h"

#define MATERIAL_MAX (2 * GT_KEY_SIZE) /* K_dev || K_rc, or K_devs || K_rc */

static const struct gt_span no_context = {(const uint8_t *)"", 0};
static const uint8_t zeros[GT_KEY_SIZE];

/* --- parsing of key texts ---------------------------------------------------------------- */

/* Returns the number of bytes, or 0 if @text is not base64 of at most MATERIAL_MAX bytes. */
static size_t decode_material(const char *text, uint8_t ret[static MATERIAL_MAX + 3])
{
    size_t n = 0;

    if (gt_text_unbase64(gt_span_text(text), ret, MATERIAL_MAX + 3, &n) != 0 || n > MATERIAL_MAX)
        return 0;
    return n;
}

static bool is_zero(const uint8_t key[static GT_KEY_SIZE])
{
    return gt_is_equal(key, zeros, GT_KEY_SIZE);
}

static int make_salt(const char *iv_text, uint8_t ret[static GT_KEY_SIZE])
{
    uint8_t iv[GT_KEYTEXT_IV_MAX];
    size_t n = 0;

    int r = gt_keytext_decode_iv(iv_text, iv, &n);
    if (r)
        return r;
    struct gt_span parts[] = {gt_span_text("gotthard/1 salt"), gt_span(iv, n)};
    return gt_sha256(parts, GT_ARRAY_SIZE(parts), ret);
}

static bool is_same(const char *text, const uint8_t *ikm, const char *iv)
{
    uint8_t as_key[GT_KEY_SIZE];

    return strcasecmp(text, iv) == 0 ||
           (ikm && gt_keytext_decode_exact(iv, as_key) && gt_is_equal(as_key, ikm, sizeof(as_key)));
}

static int parse_master(const char *text, const char *iv, struct gt_key *key)
{
    uint8_t ikm[GT_KEY_SIZE] = {0}, salt[GT_KEY_SIZE];
    const char *passphrase = NULL;

    int r_key = gt_keytext_decode(text, ikm, &key->is_passphrase, &passphrase);
    int r = make_salt(iv, salt);
    if (iv && is_same(text, key->is_passphrase ? NULL : ikm, iv))
        r = GT_KEY_E_SAME;
    if (r == 0)
        r = r_key;
    if (r == 0 && key->is_passphrase)
        r = gt_scrypt(gt_span_text(passphrase), gt_span(salt, sizeof(salt)), ikm);
    if (r == 0)
        r = gt_hkdf_extract(gt_span(salt, sizeof(salt)), gt_span(ikm, sizeof(ikm)), key->master);
    if (r == 0)
        r = gt_hkdf_label(key->master, "relay", no_context, key->relay, sizeof(key->relay));
    if (r == 0)
        r = gt_hkdf_label(key->master, "devices", no_context, key->devices, sizeof(key->devices));
    key->kind = GT_KEY_MASTER;
    key->has_devices = true;
    gt_wipe(ikm, sizeof(ikm));
    return r;
}

static int parse_relay(const char *text, struct gt_key *key)
{
    uint8_t material[MATERIAL_MAX + 3];
    bool is_good = decode_material(text, material) == GT_KEY_SIZE;

    key->kind = GT_KEY_RELAY;
    if (is_good)
        memcpy(key->relay, material, GT_KEY_SIZE);
    gt_wipe(material, sizeof(material));
    if (!is_good)
        return GT_KEY_E_SYNTAX;
    return is_zero(key->relay) ? GT_KEY_E_ZERO : 0;
}

/* Parses "NAME.MATERIAL". Returns the number of bytes of @ret_material, or 0. The last dot is the
 * separator: a name may have dots, and base64 has none. */
static size_t parse_named(const char *text, struct gt_key *key,
                          uint8_t ret_material[static MATERIAL_MAX + 3])
{
    const char *dot = strrchr(text, '.');

    if (!dot || !gt_text_is_name(gt_span(text, (size_t)(dot - text))))
        return 0;
    memcpy(key->name, text, (size_t)(dot - text));
    return decode_material(dot + 1, ret_material);
}

static int parse_device(const char *text, struct gt_key *key)
{
    uint8_t material[MATERIAL_MAX + 3];
    bool is_good = parse_named(text, key, material) == 2 * GT_KEY_SIZE &&
                   gt_text_is_device_name(gt_span_text(key->name));

    key->kind = GT_KEY_DEVICE;
    if (is_good) {
        memcpy(key->of_device, material, GT_KEY_SIZE);
        memcpy(key->client, material + GT_KEY_SIZE, GT_KEY_SIZE);
    }
    gt_wipe(material, sizeof(material));
    if (!is_good)
        return GT_KEY_E_SYNTAX;
    return is_zero(key->of_device) || is_zero(key->client) ? GT_KEY_E_ZERO : 0;
}

/* K_devs || K_rc, or K_rc alone for an operator of some devices. */
static int parse_operator(const char *text, struct gt_key *key)
{
    uint8_t material[MATERIAL_MAX + 3];
    size_t n = parse_named(text, key, material);
    bool is_good = n == GT_KEY_SIZE || n == 2 * GT_KEY_SIZE;

    key->kind = GT_KEY_OPERATOR;
    key->has_devices = n == 2 * GT_KEY_SIZE;
    if (key->has_devices)
        memcpy(key->devices, material, GT_KEY_SIZE);
    if (is_good)
        memcpy(key->client, material + n - GT_KEY_SIZE, GT_KEY_SIZE);
    gt_wipe(material, sizeof(material));
    if (!is_good)
        return GT_KEY_E_SYNTAX;
    return is_zero(key->client) || (key->has_devices && is_zero(key->devices)) ? GT_KEY_E_ZERO : 0;
}

int gt_key_parse(const char *text, const char *iv, struct gt_key *ret_key)
{
    struct gt_key key = {0};
    int r;

    if (strncmp(text, "gk1r.", 5) == 0)
        r = parse_relay(text + 5, &key);
    else if (strncmp(text, "gk1d.", 5) == 0)
        r = parse_device(text + 5, &key);
    else if (strncmp(text, "gk1o.", 5) == 0)
        r = parse_operator(text + 5, &key);
    else if (strncmp(text, "gk1", 3) == 0) /* a future kind or a typing error, never a passphrase */
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

/* --- formatting of key texts ------------------------------------------------------------- */

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

/* Formats "PREFIX NAME . MATERIAL" without the blanks. */
static int format_named(const char *kind, const char *name, const void *material, size_t n,
                        char *ret_text)
{
    char prefix[sizeof("gk1d.") + GT_NAME_MAX + sizeof(".")];

    stpcpy(stpcpy(stpcpy(prefix, kind), name), ".");
    return format_material(prefix, material, n, ret_text);
}

int gt_key_format_device(const struct gt_key *key, const char *device, char *ret_text)
{
    uint8_t material[MATERIAL_MAX];

    if (key->kind != GT_KEY_MASTER)
        return GT_KEY_E_NOT_HELD;
    int r = gt_key_device(key, device, material);
    if (r == 0)
        r = gt_key_client(key, GT_ROLE_DEVICE, device, material + GT_KEY_SIZE);
    if (r == 0)
        r = format_named("gk1d.", device, material, sizeof(material), ret_text);
    gt_wipe(material, sizeof(material));
    return r;
}

int gt_key_format_operator(const struct gt_key *key, const char *operator_, bool is_of_every_device,
                           char *ret_text)
{
    uint8_t material[MATERIAL_MAX];
    size_t n = is_of_every_device ? GT_KEY_SIZE : 0; /* bytes before K_rc */

    if (key->kind != GT_KEY_MASTER)
        return GT_KEY_E_NOT_HELD;
    memcpy(material, key->devices, n);
    int r = gt_key_client(key, GT_ROLE_OPERATOR, operator_, material + n);
    if (r == 0)
        r = format_named("gk1o.", operator_, material, n + GT_KEY_SIZE, ret_text);
    gt_wipe(material, sizeof(material));
    return r;
}

/* --- key derivation ---------------------------------------------------------------------- */

static int derive_of_device(const uint8_t from[static GT_KEY_SIZE], const char *device,
                            uint8_t ret[static GT_KEY_SIZE])
{
    uint8_t context[2 + GT_NAME_MAX];
    struct gt_writer w = gt_writer(context, sizeof(context));

    gt_write_string(&w, device);
    return gt_hkdf_label(from, "device", gt_span(context, w.n), ret, GT_KEY_SIZE);
}

int gt_key_device(const struct gt_key *key, const char *device, uint8_t ret[static GT_KEY_SIZE])
{
    if (!gt_text_is_device_name(gt_span_text(device)))
        return GT_KEY_E_SYNTAX;
    if (key->kind == GT_KEY_DEVICE && strcmp(key->name, device) == 0) {
        memcpy(ret, key->of_device, GT_KEY_SIZE);
        return 0;
    }
    return key->has_devices ? derive_of_device(key->devices, device, ret) : GT_KEY_E_NOT_HELD;
}

int gt_key_device_id(const uint8_t of_device[static GT_KEY_SIZE],
                     uint8_t ret[static GT_KEY_ID_SIZE])
{
    return gt_hkdf_label(of_device, "device-id", no_context, ret, GT_KEY_ID_SIZE);
}

int gt_key_device_id_of_0_2(const struct gt_key *key, const char *device,
                            uint8_t ret[static GT_KEY_ID_SIZE])
{
    uint8_t of_device[GT_KEY_SIZE];

    if (!gt_text_is_name(gt_span_text(device)))
        return GT_KEY_E_SYNTAX;
    if (key->kind != GT_KEY_MASTER)
        return GT_KEY_E_NOT_HELD;
    int r = derive_of_device(key->master, device, of_device);
    if (r == 0)
        r = gt_key_device_id(of_device, ret);
    gt_wipe(of_device, sizeof(of_device));
    return r;
}

/* The role in which a key of one name is a client of the relay. */
static bool is_of_role(const struct gt_key *key, enum gt_role role)
{
    return role == (key->kind == GT_KEY_DEVICE ? GT_ROLE_DEVICE : GT_ROLE_OPERATOR);
}

int gt_key_client(const struct gt_key *key, enum gt_role role, const char *name,
                  uint8_t ret[static GT_KEY_SIZE])
{
    uint8_t context[1 + 2 + GT_NAME_MAX];
    struct gt_writer w = gt_writer(context, sizeof(context));

    if (!gt_text_is_name(gt_span_text(name)))
        return GT_KEY_E_SYNTAX;
    if (key->kind == GT_KEY_DEVICE || key->kind == GT_KEY_OPERATOR) {
        if (!is_of_role(key, role) || strcmp(key->name, name) != 0)
            return GT_KEY_E_NOT_HELD;
        memcpy(ret, key->client, GT_KEY_SIZE);
        return 0;
    }
    gt_write_u8(&w, (uint8_t)role);
    gt_write_string(&w, name);
    return gt_hkdf_label(key->relay, "relay-client", gt_span(context, w.n), ret, GT_KEY_SIZE);
}

int gt_key_relay_id(const struct gt_key *key, uint8_t ret[static GT_KEY_ID_SIZE])
{
    if (key->kind != GT_KEY_MASTER && key->kind != GT_KEY_RELAY)
        return GT_KEY_E_NOT_HELD;
    return gt_hkdf_label(key->relay, "relay-id", no_context, ret, GT_KEY_ID_SIZE);
}

int gt_key_fleet_id(const struct gt_key *key, uint8_t ret[static GT_KEY_ID_SIZE])
{
    if (key->kind != GT_KEY_OPERATOR)
        return gt_key_relay_id(key, ret);
    return gt_hkdf_label(key->client, "operator-id", no_context, ret, GT_KEY_ID_SIZE);
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
        r = gt_hkdf_label(prk, "report", context, keys.report, GT_KEY_SIZE);
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
