/* SPDX-License-Identifier: ISC */
/* The authority's key and its signatures; see the header. */
#include "gotthard/trust/access-signature.h"

#include <stdio.h>

#include "gotthard/base/text.h"
#include "gotthard/crypto/statement.h"

static void format_key(const char *prefix, const uint8_t *key, char *ret)
{
    char text[GT_AUTHORITY_TEXT_MAX] = "";

    if (gt_text_base64(key, GT_KEY_SIZE, true, text, sizeof(text)) == 0)
        snprintf(ret, GT_AUTHORITY_TEXT_MAX, "%s%.43s", prefix, text);
    gt_wipe(text, sizeof(text));
}

void gt_authority_format_public(const uint8_t public_key[static GT_KEY_SIZE],
                                char ret[static GT_AUTHORITY_TEXT_MAX])
{
    format_key(GT_AUTHORITY_PUBLIC_PREFIX, public_key, ret);
}

void gt_authority_format_private(const uint8_t key[static GT_KEY_SIZE],
                                 char ret[static GT_AUTHORITY_TEXT_MAX])
{
    format_key(GT_AUTHORITY_PRIVATE_PREFIX, key, ret);
}

static bool has_prefix(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* Returns false unless @text is @prefix and the base64 of 32 bytes. */
static bool parse_key(const char *text, const char *prefix, uint8_t *ret)
{
    uint8_t key[GT_KEY_SIZE];
    size_t n = 0;
    bool is_good =
        has_prefix(text, prefix) &&
        gt_text_unbase64(gt_span_text(text + strlen(prefix)), key, sizeof(key), &n) == 0 &&
        n == sizeof(key);

    if (is_good)
        memcpy(ret, key, sizeof(key));
    gt_wipe(key, sizeof(key));
    return is_good;
}

int gt_authority_parse_public(const char *text, uint8_t ret[static GT_KEY_SIZE],
                              const char **ret_why)
{
    if (parse_key(text, GT_AUTHORITY_PUBLIC_PREFIX, ret))
        return 0;
    *ret_why = has_prefix(text, GT_AUTHORITY_PRIVATE_PREFIX)
                   ? "this is the authority's private key, which belongs on no other machine; its "
                     "public key begins with " GT_AUTHORITY_PUBLIC_PREFIX
                   : "must be " GT_AUTHORITY_PUBLIC_PREFIX " and 43 base64 characters";
    return GT_AUTHORITY_E_SYNTAX;
}

int gt_authority_parse_private(const char *text, uint8_t ret[static GT_KEY_SIZE],
                               const char **ret_why)
{
    if (parse_key(text, GT_AUTHORITY_PRIVATE_PREFIX, ret))
        return 0;
    *ret_why = has_prefix(text, GT_AUTHORITY_PUBLIC_PREFIX)
                   ? "this is the authority's public key, which cannot sign"
                   : "must be " GT_AUTHORITY_PRIVATE_PREFIX " and 43 base64 characters";
    return GT_AUTHORITY_E_SYNTAX;
}

static const char *context_text(enum gt_access_context context)
{
    switch (context) {
    case GT_ACCESS_CONTEXT_LIST: return "Gotthard v1, access list";
    case GT_ACCESS_CONTEXT_PART: return "Gotthard v1, access part";
    }
    abort();
}

int gt_access_sign(const uint8_t key[static GT_KEY_SIZE], enum gt_access_context context,
                   struct gt_span data, uint8_t ret[static GT_ED25519_SIGNATURE_SIZE])
{
    struct gt_statement statement;
    int r = gt_statement_make(context_text(context), &data, 1, &statement);

    return r ? r : gt_ed25519_sign(key, gt_statement_span(&statement), ret);
}

int gt_access_verify(const uint8_t public_key[static GT_KEY_SIZE], enum gt_access_context context,
                     struct gt_span data, const uint8_t signature[static GT_ED25519_SIGNATURE_SIZE])
{
    struct gt_statement statement;
    int r = gt_statement_make(context_text(context), &data, 1, &statement);

    if (r == 0)
        r = gt_ed25519_verify(public_key, gt_statement_span(&statement), signature);
    return r > 0 ? GT_ACCESS_SIGNATURE_E_BAD : r;
}
