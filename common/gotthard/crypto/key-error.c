/* SPDX-License-Identifier: ISC */
/* The conditions of gt_key_parse() in words for users. They never contain a part of a key. */
#include "gotthard/crypto/key.h"

#define DECLARE "; a passphrase of this form begins with passphrase:"

/* A salt is never declared a passphrase. */
static const char *strerror_of_iv(int condition)
{
    static const char *const texts[] = {
        [GT_KEY_E_HEX] = "resembles hex digits, but an IV has exactly 32, without separators",
        [GT_KEY_E_BASE64] = "resembles base64, but an IV has 22 to 24 characters, in one piece",
        [GT_KEY_E_QUOTES] = "begins or ends with a quote; remove it",
        [GT_KEY_E_VARIABLE] = "contains the name of a variable, expected the IV alone",
        [GT_KEY_E_COMMENT] = "contains a comment (#), expected the IV alone",
        [GT_KEY_E_TYPOGRAPHIC] = "has a typographic character (dash, curly quote, ellipsis)",
        [GT_KEY_E_REFERENCE] = "is a path or an unfilled template, expected the IV itself",
    };
    size_t i = (size_t)condition & ~(size_t)GT_KEY_OF_IV;
    bool is_of_iv = condition & GT_KEY_OF_IV;

    return is_of_iv && i < GT_ARRAY_SIZE(texts) ? texts[i] : NULL;
}

const char *gt_key_strerror(int condition)
{
    static const char *const texts[] = {
        [GT_KEY_E_SYNTAX] = "neither 64 hex digits, 32 bytes of base64, a gk1 string, nor a "
                            "passphrase of 20 to 511 printable characters",
        [GT_KEY_E_ZERO] = "all zeros",
        [GT_KEY_E_SAME] = "the same as the IV",
        [GT_KEY_E_IV] = "missing, or neither 32 hex digits, 16 bytes of base64, nor 8 to 64 "
                        "printable characters",
        [GT_KEY_E_NOT_HELD] = "this kind of key cannot derive the requested one",
        [GT_KEY_E_INVISIBLE] = "has an invisible character (no-break space, zero-width character, "
                               "byte order mark)",
        [GT_KEY_E_BLANKS] = "begins or ends with a blank; remove it",
        [GT_KEY_E_QUOTES] = "begins or ends with a quote; remove it" DECLARE,
        [GT_KEY_E_VARIABLE] = "contains the name of a variable, expected the key alone" DECLARE,
        [GT_KEY_E_COMMENT] = "contains a comment (#), expected the key alone" DECLARE,
        [GT_KEY_E_DERIVED] = "resembles a gk1 string, but has something before it or another case",
        [GT_KEY_E_HEX] =
            "resembles hex digits, but a key has exactly 64, without separators" DECLARE,
        [GT_KEY_E_BASE64] =
            "resembles base64, but a key has 43 or 44 characters, in one piece" DECLARE,
        [GT_KEY_E_TYPOGRAPHIC] =
            "has a typographic character (dash, curly quote, ellipsis)" DECLARE,
        [GT_KEY_E_REFERENCE] = "is a path or an unfilled template, expected the key itself" DECLARE,
    };
    const char *text = strerror_of_iv(condition);
    size_t i = (size_t)condition & ~(size_t)GT_KEY_OF_IV;

    if (text)
        return text;
    return i < GT_ARRAY_SIZE(texts) && texts[i] ? texts[i] : "unknown error";
}

bool gt_key_is_of_iv(int condition)
{
    return condition > 0 && (condition == GT_KEY_E_IV || (condition & GT_KEY_OF_IV));
}
