/* SPDX-License-Identifier: ISC */
/* Tokens and the keys that follow from them; see the header. */
#include "gotthard/trust/token.h"

#include <stdio.h>

#define MATERIAL_SIZE (1 + 4 + GT_TOKEN_SEED_SIZE + 2 * GT_KEY_SIZE)
#define MATERIAL_TEXT ((MATERIAL_SIZE * 4 + 2) / 3) /* characters */

static const struct gt_span no_context = {(const uint8_t *)"", 0};

const char *gt_token_kind_text(enum gt_token_kind kind)
{
    switch (kind) {
    case GT_TOKEN_DEVICE: return "device";
    case GT_TOKEN_OPERATOR: return "operator";
    case GT_TOKEN_RELAY: return "relay";
    }
    return "unknown kind";
}

bool gt_token_is_kind(unsigned kind)
{
    return kind >= GT_TOKEN_DEVICE && kind <= GT_TOKEN_RELAY;
}

/* --- names ------------------------------------------------------------------------------------ */

bool gt_token_is_reserved_name(const char *name)
{
    return strncmp(name, GT_TEXT_RESERVED, strlen(GT_TEXT_RESERVED)) == 0;
}

/* @id: X(PRK_T, "name", "", 4). */
static void make_name(uint32_t expires_at, const uint8_t id[static 4],
                      char ret[static GT_TOKEN_NAME_SIZE])
{
    char hex[2 * 4 + 1];

    gt_text_hex(id, 4, hex);
    snprintf(ret, GT_TOKEN_NAME_SIZE, GT_TEXT_RESERVED "%08x-%s", (unsigned)expires_at, hex);
}

/* The name is written again and compared: there is one spelling of each. */
int gt_token_parse_name(const char *name, uint32_t *ret_expires_at)
{
    size_t n_prefix = strlen(GT_TEXT_RESERVED);
    char hex[2 * 4 + 1], again[GT_TOKEN_NAME_SIZE];
    uint8_t bytes[2][4];

    if (!gt_token_is_reserved_name(name) || strlen(name) != GT_TOKEN_NAME_SIZE - 1)
        return GT_TOKEN_E_SYNTAX;
    for (size_t i = 0; i < 2; i++) {
        memcpy(hex, name + n_prefix + 9 * i, 8);
        hex[8] = 0;
        if (gt_text_unhex(hex, bytes[i], 4) != 0)
            return GT_TOKEN_E_SYNTAX;
    }
    struct gt_reader r = gt_reader(bytes[0], 4);
    uint32_t expires_at = gt_read_u32(&r);
    make_name(expires_at, bytes[1], again);
    if (strcmp(name, again) != 0)
        return GT_TOKEN_E_SYNTAX;
    *ret_expires_at = expires_at;
    return 0;
}

/* --- derivation ------------------------------------------------------------------------------- */

static int derive(const struct gt_token *token, struct gt_token_keys *keys)
{
    uint8_t id[4];

    int r = gt_hkdf_extract(gt_span_text("gotthard/1 token"),
                            gt_span(token->seed, sizeof(token->seed)), keys->prk);
    if (r == 0)
        r = gt_hkdf_label(keys->prk, "session", no_context, keys->session, GT_KEY_SIZE);
    if (r == 0)
        r = gt_hkdf_label(keys->prk, "rendezvous", no_context, keys->rid, GT_RID_SIZE);
    if (r == 0)
        r = gt_hkdf_label(keys->prk, "name", no_context, id, sizeof(id));
    if (r == 0)
        make_name(token->expires_at, id, keys->name);
    return r > 0 ? -EIO : r;
}

int gt_token_derive(const struct gt_token *token, struct gt_token_keys *ret)
{
    struct gt_token_keys keys;
    int r = derive(token, &keys);

    if (r == 0)
        *ret = keys;
    gt_token_keys_wipe(&keys);
    return r;
}

void gt_token_keys_wipe(struct gt_token_keys *keys)
{
    gt_wipe(keys, sizeof(*keys));
}

/* --- creation --------------------------------------------------------------------------------- */

static int make_client_key(const struct gt_key *key, struct gt_token *token)
{
    struct gt_token_keys keys;

    if (key->kind != GT_KEY_MASTER)
        return GT_TOKEN_E_NOT_HELD;
    int r = gt_token_derive(token, &keys);
    if (r == 0)
        r = gt_key_client(key, GT_ROLE_DEVICE, keys.name, token->client);
    gt_token_keys_wipe(&keys);
    return r > 0 ? GT_TOKEN_E_NOT_HELD : r;
}

static int make_token(const struct gt_key *key, struct gt_token *token, uint8_t *ret_private)
{
    int r = gt_random(token->seed, sizeof(token->seed));

    if (r == 0)
        r = gt_random(ret_private, GT_KEY_SIZE);
    if (r == 0)
        r = gt_x25519_public(ret_private, token->public_key);
    return r == 0 ? make_client_key(key, token) : r > 0 ? -EIO : r;
}

int gt_token_new(const struct gt_key *key, enum gt_token_kind kind, const char *relay_host,
                 uint16_t relay_port, uint32_t expires_at, struct gt_token *ret,
                 uint8_t ret_private[static GT_KEY_SIZE])
{
    struct gt_token token = {.kind = kind, .relay_port = relay_port, .expires_at = expires_at};
    uint8_t private_key[GT_KEY_SIZE];

    if (!gt_text_is_host(relay_host) || !relay_port || !expires_at || !gt_token_is_kind(kind))
        return GT_TOKEN_E_SYNTAX;
    snprintf(token.relay_host, sizeof(token.relay_host), "%s", relay_host);
    int r = make_token(key, &token, private_key);
    if (r == 0) {
        *ret = token;
        memcpy(ret_private, private_key, sizeof(private_key));
    }
    gt_wipe(private_key, sizeof(private_key));
    gt_token_wipe(&token);
    return r;
}

/* --- text ------------------------------------------------------------------------------------- */

void gt_token_format(const struct gt_token *token, char ret[static GT_TOKEN_TEXT_MAX])
{
    uint8_t material[MATERIAL_SIZE];
    char text[MATERIAL_TEXT + 4] = "";
    struct gt_writer w = gt_writer(material, sizeof(material));
    bool is_v6 = strchr(token->relay_host, ':') != NULL;

    gt_write_u8(&w, (uint8_t)token->kind);
    gt_write_u32(&w, token->expires_at);
    gt_write_bytes(&w, token->seed, sizeof(token->seed));
    gt_write_bytes(&w, token->client, sizeof(token->client));
    gt_write_bytes(&w, token->public_key, sizeof(token->public_key));
    (void)!gt_text_base64(material, sizeof(material), true, text, sizeof(text)); /* it fits */
    snprintf(ret, GT_TOKEN_TEXT_MAX, GT_TOKEN_PREFIX "%s%s%s:%u.%s", is_v6 ? "[" : "",
             token->relay_host, is_v6 ? "]" : "", token->relay_port, text);
    gt_wipe(material, sizeof(material));
    gt_wipe(text, sizeof(text));
}

static bool parse_relay(struct gt_span text, struct gt_token *token)
{
    char address[GT_HOST_MAX + 16];

    if (!text.n || text.n >= sizeof(address))
        return false;
    memcpy(address, text.data, text.n);
    address[text.n] = 0;
    return gt_text_host_port(address, 0, token->relay_host, &token->relay_port) == 0;
}

static bool parse_material(const char *text, struct gt_token *token)
{
    uint8_t material[MATERIAL_SIZE + 3];
    size_t n = 0;
    bool is_good = gt_text_unbase64(gt_span_text(text), material, sizeof(material), &n) == 0 &&
                   n == MATERIAL_SIZE;
    struct gt_reader r = gt_reader(material, is_good ? n : 0);
    uint8_t kind = gt_read_u8(&r);

    token->kind = (enum gt_token_kind)kind;
    token->expires_at = gt_read_u32(&r);
    gt_read_into(&r, token->seed, sizeof(token->seed));
    gt_read_into(&r, token->client, sizeof(token->client));
    gt_read_into(&r, token->public_key, sizeof(token->public_key));
    gt_wipe(material, sizeof(material));
    return gt_reader_is_done(&r) && gt_token_is_kind(kind) && token->expires_at;
}

/* A copied token loses its end more often than anything else. */
static const char *why_invalid(const char *text, struct gt_token *token)
{
    size_t n_prefix = strlen(GT_TOKEN_PREFIX);
    const char *dot = strrchr(text, '.');

    if (strncmp(text, GT_TOKEN_PREFIX, n_prefix) != 0)
        return "not a token: it must begin with " GT_TOKEN_PREFIX;
    if (dot < text + n_prefix ||
        !parse_relay(gt_span(text + n_prefix, (size_t)(dot - text) - n_prefix), token))
        return "not a whole token: " GT_TOKEN_PREFIX
               " must be followed by the relay's HOST:PORT, a dot and the secret part";
    if (strlen(dot + 1) != MATERIAL_TEXT)
        return "not a whole token: its last part has too many or too few characters";
    return parse_material(dot + 1, token) ? NULL : "the token's last part is damaged";
}

int gt_token_parse(const char *text, struct gt_token *ret, char ret_why[static GT_TOKEN_WHY])
{
    struct gt_token token = {0};
    const char *why = why_invalid(text, &token);

    if (why)
        snprintf(ret_why, GT_TOKEN_WHY, "%s", why);
    else
        *ret = token;
    gt_token_wipe(&token);
    return why ? GT_TOKEN_E_SYNTAX : 0;
}

void gt_token_wipe(struct gt_token *token)
{
    gt_wipe(token, sizeof(*token));
}
