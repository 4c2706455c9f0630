/* SPDX-License-Identifier: ISC */
/*
 * Decoding of key texts; see the header. Whether a text resembles a damaged key is decided by its
 * form alone: what surrounds it, how many hex digits it has, and whether a long piece consists of
 * words. A message must never contain a part of the text.
 */
#include "gotthard/crypto/key-text.h"

#include <strings.h>

#define PASSPHRASE_MIN  20 /* characters */
#define IV_TEXT_MIN     8
#define RESEMBLANCE_MIN 17 /* digits or characters from which a text can be a damaged key or IV */

static const char passphrase_prefix[] = "passphrase:";

/* --- characters --------------------------------------------------------------------------- */

static bool is_upper(char c)
{
    return c >= 'A' && c <= 'Z';
}

static bool is_lower(char c)
{
    return c >= 'a' && c <= 'z';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_alphanumeric(char c)
{
    return is_upper(c) || is_lower(c) || is_digit(c);
}

static bool is_hex(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static bool is_base64(char c)
{
    return is_alphanumeric(c) || (c && strchr("+/-_=", c));
}

/* Control characters indicate a file with additional lines, or a binary file. */
static bool has_control(const char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            return true;
    return false;
}

/* Counts UTF-8 characters, so that the minimum is the same in every language. */
static size_t count_characters(const char *text)
{
    size_t n = 0;

    for (; *text; text++)
        n += ((unsigned char)*text & 0xc0) != 0x80;
    return n;
}

/* UTF-8 of dashes, quotes, dots and other marks that a word processor puts in place of plain ones:
 * U+2010 to U+2027, U+2030 to U+203F. */
static bool is_typographic(const char *text)
{
    unsigned char last = strncmp(text, "\xe2\x80", 2) == 0 ? (unsigned char)text[2] : 0;

    return (last >= 0x90 && last <= 0xa7) || last >= 0xb0;
}

static bool has_typographic(const char *text)
{
    while (*text && !is_typographic(text))
        text++;
    return *text != 0;
}

/* UTF-8 of characters that a person cannot see: no-break space and soft hyphen, spaces and marks of
 * direction from U+2000, word joiners, the byte order mark, variation selectors, the replacement
 * character. */
static bool has_invisible(const char *text)
{
    static const char *const sequences[] = {"\xc2\xa0",     "\xc2\xad",     "\xe2\x80",
                                            "\xe2\x81\xa0", "\xe2\x81\x9f", "\xef\xbb\xbf",
                                            "\xef\xb8",     "\xef\xbf\xbd", "\xe1\x9a\x80"};

    for (; *text; text++)
        for (size_t i = 0; i < GT_ARRAY_SIZE(sequences); i++)
            if (strncmp(text, sequences[i], strlen(sequences[i])) == 0 && !is_typographic(text))
                return true;
    return false;
}

/* --- words -------------------------------------------------------------------------------- */

static size_t count_while(const char *text, size_t n, bool (*is_part)(char c))
{
    size_t i = 0;

    while (i < n && is_part(text[i]))
        i++;
    return i;
}

/* "battery", "BATTERY", "2027". */
static bool is_of_one_case(const char *text, size_t n)
{
    return count_while(text, n, is_lower) == n || count_while(text, n, is_upper) == n ||
           count_while(text, n, is_digit) == n;
}

/* "Battery", "correctHorseBattery7": words of three letters or more with a capital each, then
 * digits. Random characters hardly ever have this form. */
static bool is_of_capitals(const char *text, size_t n)
{
    size_t i = 0;

    while (i < n && !is_digit(text[i])) {
        bool has_capital = is_upper(text[i]);
        size_t n_lower = count_while(text + i + has_capital, n - i - has_capital, is_lower);

        if (n_lower < 2 || (!has_capital && i > 0))
            return false;
        i += has_capital + n_lower;
    }
    return i + count_while(text + i, n - i, is_digit) == n;
}

/* True if each piece between signs such as '-' is a word. */
static bool is_words(const char *text, size_t n)
{
    for (size_t at = 0; at < n;) {
        size_t n_piece = count_while(text + at, n - at, is_alphanumeric);

        if (!is_of_one_case(text + at, n_piece) && !is_of_capitals(text + at, n_piece))
            return false;
        at += n_piece + 1;
    }
    return true;
}

/* --- damage ------------------------------------------------------------------------------- */

static bool is_quote(char c)
{
    return c && strchr("\"'`", c);
}

/* "NAME=...", "export NAME=...", "export NAME ...": a line of a file of variables. */
static bool has_variable_name(const char *text)
{
    size_t n = strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_");
    size_t n_blanks = strspn(text + n, " ");

    return strncmp(text, "export ", 7) == 0 || strstr(text, "GOTTHARD_") ||
           (n >= 3 && memchr(text, '_', n) && strchr("=:", text[n + n_blanks]) &&
            text[n + n_blanks]);
}

static bool has_comment(const char *text)
{
    return *text == '#' || strstr(text, " #") || strstr(text, " //");
}

/* A path, as for a variable of a file, or a template that was not filled in. */
static bool is_reference(const char *text)
{
    static const char *const starts[] = {"/", "~/", "./", "../", "@/", "file:", "-----BEGIN", "<!"};
    static const char *const marks[] = {"${", "$(", "{{"};

    for (size_t i = 0; i < GT_ARRAY_SIZE(starts); i++)
        if (strncasecmp(text, starts[i], strlen(starts[i])) == 0)
            return true;
    for (size_t i = 0; i < GT_ARRAY_SIZE(marks); i++)
        if (strstr(text, marks[i]))
            return true;
    return *text == '<' && strchr(text, '>') == text + strlen(text) - 1;
}

/* "gk1d..." inside of something else or in another case. */
static bool has_derived_prefix(const char *text)
{
    for (; *text; text++)
        if (strncasecmp(text, "gk1", 3) == 0 && text[3] && strchr("rRdDoO", text[3]) &&
            text[4] == '.')
            return true;
    return false;
}

/* Only hex digits, whatever separates them: "00:01:02", "0x00, 0x01", "[0001]". An x is taken as a
 * separator. Characters outside of ASCII replace digits in a damaged text. */
static bool is_hex_like(const char *text)
{
    size_t n = 0;

    for (; *text; text++) {
        if (is_hex(*text))
            n++;
        else if (is_alphanumeric(*text) && *text != 'x' && *text != 'X')
            return false;
    }
    return n >= RESEMBLANCE_MIN;
}

/* A long piece of base64 characters that are not words. */
static bool has_base64_piece(const char *text)
{
    while (*text) {
        size_t n = count_while(text, strlen(text), is_base64);

        if (n >= RESEMBLANCE_MIN && !is_words(text, n))
            return true;
        text += n + (text[n] != 0);
    }
    return false;
}

/* Pieces of equal length that are not words, as base64 in groups: "AAEC AwQF BgcI CQoL DA0O". One
 * sign separates them all. */
static bool is_grouped(const char *text)
{
    size_t n_first = count_while(text, strlen(text), is_base64), n_all = 0;
    bool is_all_words = true;

    for (const char *at = text; *at;) {
        size_t n = count_while(at, strlen(at), is_base64);
        bool is_last = at[n] == 0 || at[n + 1] == 0;

        if (n == 0 || (is_last ? n > n_first : n != n_first) || (at[n] && at[n] != text[n_first]))
            return false;
        is_all_words = is_all_words && is_words(at, n);
        n_all += n;
        at += n + (at[n] != 0);
    }
    return n_all >= RESEMBLANCE_MIN && !is_all_words;
}

/* The damage of any text, also of one that is declared a passphrase. */
static int damage_of_ends(const char *text)
{
    size_t n = strlen(text);

    if (has_invisible(text))
        return GT_KEY_E_INVISIBLE;
    if (n && (strchr(" \t\r\n", text[0]) || strchr(" \t\r\n", text[n - 1])))
        return GT_KEY_E_BLANKS;
    return 0;
}

/* Returns 0, or the condition that describes the damage. */
static int damage_of(const char *text)
{
    size_t n = strlen(text);
    int r = damage_of_ends(text);

    if (r)
        return r;
    if (has_typographic(text))
        return GT_KEY_E_TYPOGRAPHIC;
    if (n && (is_quote(text[0]) || is_quote(text[n - 1])))
        return GT_KEY_E_QUOTES;
    if (has_variable_name(text))
        return GT_KEY_E_VARIABLE;
    if (has_comment(text))
        return GT_KEY_E_COMMENT;
    if (has_derived_prefix(text))
        return GT_KEY_E_DERIVED;
    if (is_hex_like(text))
        return GT_KEY_E_HEX;
    if (is_reference(text))
        return GT_KEY_E_REFERENCE;
    return has_base64_piece(text) || is_grouped(text) ? GT_KEY_E_BASE64 : 0;
}

/* --- decoding ----------------------------------------------------------------------------- */

static bool decode_base64(const char *text, uint8_t *ret, size_t n)
{
    uint8_t bytes[GT_KEY_SIZE + 3];
    size_t n_bytes = 0;
    bool is_good =
        gt_text_unbase64(gt_span_text(text), bytes, sizeof(bytes), &n_bytes) == 0 && n_bytes == n;

    if (is_good)
        memcpy(ret, bytes, n);
    gt_wipe(bytes, sizeof(bytes));
    return is_good;
}

bool gt_keytext_decode_exact(const char *text, uint8_t ret[static GT_KEY_SIZE])
{
    size_t n = strlen(text);

    if (n == 2 * GT_KEY_SIZE)
        return gt_text_unhex(text, ret, GT_KEY_SIZE) == 0;
    return (n == 43 || n == 44) && decode_base64(text, ret, GT_KEY_SIZE);
}

/* @is_declared: it began with "passphrase:". */
static int check_passphrase(const char *text, bool is_declared)
{
    size_t n = count_characters(text);

    if (has_control(text) || strlen(text) >= GT_KEY_TEXT_MAX)
        return GT_KEY_E_SYNTAX;
    if (n >= PASSPHRASE_MIN && strspn(text, "0") == n)
        return GT_KEY_E_ZERO;
    int r = is_declared ? damage_of_ends(text) : damage_of(text);
    return r == 0 && n < PASSPHRASE_MIN ? GT_KEY_E_SYNTAX : r;
}

int gt_keytext_decode(const char *text, uint8_t ret[static GT_KEY_SIZE], bool *ret_is_passphrase,
                      const char **ret_passphrase)
{
    static const uint8_t zeros[GT_KEY_SIZE];
    size_t n_prefix = strlen(passphrase_prefix);

    *ret_is_passphrase = !gt_keytext_decode_exact(text, ret);
    if (!*ret_is_passphrase)
        return gt_is_equal(ret, zeros, sizeof(zeros)) ? GT_KEY_E_ZERO : 0;
    bool is_declared = strncasecmp(text, passphrase_prefix, n_prefix) == 0;
    *ret_passphrase = text + (is_declared ? n_prefix : 0);
    return check_passphrase(*ret_passphrase, is_declared);
}

int gt_keytext_decode_iv(const char *text, uint8_t ret[static GT_KEYTEXT_IV_MAX], size_t *ret_n)
{
    size_t n = text ? strlen(text) : 0;

    if (n == 0 || has_control(text))
        return GT_KEY_E_IV;
    *ret_n = 16;
    if (n == 32 && gt_text_unhex(text, ret, 16) == 0)
        return 0;
    if (n >= 22 && n <= 24 && decode_base64(text, ret, 16))
        return 0;
    if (n < IV_TEXT_MIN || n > GT_KEYTEXT_IV_MAX)
        return GT_KEY_E_IV;
    int damage = damage_of(text);
    if (damage)
        return damage | GT_KEY_OF_IV;
    memcpy(ret, text, n);
    *ret_n = n;
    return 0;
}
