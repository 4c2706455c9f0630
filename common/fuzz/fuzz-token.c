/* SPDX-License-Identifier: ISC */
/*
 * Texts that people paste as a token, and names of identities. A token that is accepted is written
 * back and parsed to the same one; a name that has an expiry is one that a token of that expiry may
 * have.
 */
#include "gotthard/trust/token.h"

#define TEXT_MAX 1024

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void must(bool condition)
{
    if (!condition)
        abort();
}

static void check_token(const char *text)
{
    char again[GT_TOKEN_TEXT_MAX], why[GT_TOKEN_WHY];
    struct gt_token token, same;
    struct gt_token_keys keys;
    uint32_t expires_at = 0;

    if (gt_token_parse(text, &token, why) != 0)
        return;
    gt_token_format(&token, again);
    must(gt_token_parse(again, &same, why) == 0 && memcmp(&token, &same, sizeof(token)) == 0);
    must(gt_token_derive(&token, &keys) == 0);
    must(gt_text_is_name(gt_span_text(keys.name)) &&
         !gt_text_is_device_name(gt_span_text(keys.name)));
    must(gt_token_parse_name(keys.name, &expires_at) == 0 && expires_at == token.expires_at);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    char text[TEXT_MAX];
    uint32_t expires_at;

    if (n >= sizeof(text))
        return 0;
    memcpy(text, data, n);
    text[n] = 0;
    check_token(text);
    if (gt_token_parse_name(text, &expires_at) == 0)
        must(gt_text_is_name(gt_span_text(text)) && !gt_text_is_device_name(gt_span_text(text)));
    return 0;
}
