/* SPDX-License-Identifier: ISC */
/*
 * The scan before libconfig: it knows the same words as libconfig's lexer (names, numbers, strings,
 * three kinds of comment, single signs) and refuses whatever the two could take differently. It
 * must never allocate, recurse, or let pass what it does not know.
 */
#include "gotthard/configscan.h"

#include "gotthard/text.h"

struct scan {
    const uint8_t *at, *end;
    unsigned line;
    unsigned depth, n_settings;
    uint8_t last;    /* the sign before, '"' for a text, 0 for any other word */
    const char *why; /* set: refused */
};

static bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

static bool is_letter(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_in_name(uint8_t c)
{
    return is_letter(c) || is_digit(c) || c == '_' || c == '-' || c == '*';
}

static bool is_in_number(uint8_t c)
{
    return is_in_name(c) || c == '+' || c == '.';
}

static bool scan_is_at(const struct scan *s, const char *word)
{
    size_t n = strlen(word);
    return (size_t)(s->end - s->at) >= n && memcmp(s->at, word, n) == 0;
}

static struct gt_span scan_while(struct scan *s, bool (*is_part)(uint8_t c))
{
    const uint8_t *from = s->at;
    while (s->at < s->end && is_part(*s->at))
        s->at++;
    return gt_span(from, (size_t)(s->at - from));
}

static void scan_number(struct scan *s)
{
    s->last = 0;
    struct gt_span word = scan_while(s, is_in_number);
    char text[11] = "";
    uint64_t value;

    for (size_t i = 0; i < word.n; i++)
        if (!is_digit(word.data[i])) {
            s->why = "a number is decimal digits only: no sign, point, exponent, 0x or suffix";
            return;
        }
    if (word.n > 1 && word.data[0] == '0') {
        s->why = "a number does not begin with 0; write it in decimal without it";
        return;
    }
    memcpy(text, word.data, GT_MIN(word.n, sizeof(text) - 1));
    if (word.n >= sizeof(text) || gt_text_number(text, 0, INT32_MAX, &value) != 0)
        s->why = "this number is too long; the greatest is 2147483647 (durations and sizes are "
                 "texts with a unit)";
}

static void scan_string(struct scan *s)
{
    /* libconfig loses the memory of a text that it does not expect. */
    if (!s->last || !strchr("=:\"", s->last)) {
        s->why = "a text where none belongs; a setting is name = \"text\";";
        return;
    }
    s->last = '"';
    for (s->at++; s->at < s->end; s->at++) {
        if (*s->at == '"') {
            s->at++;
            return;
        }
        if (*s->at == '\n')
            break;
        if (*s->at != '\\')
            continue;
        s->at++;
        if (s->at == s->end || !strchr("\"\\", *s->at)) {
            s->why = "a backslash in a text stands before \\ or \" only";
            return;
        }
    }
    s->why = "a text is not closed; it ends with \" on the line it began";
}

static void scan_block_comment(struct scan *s)
{
    unsigned line = s->line;
    for (s->at += 2; s->at < s->end; s->at++) {
        if (scan_is_at(s, "*/")) {
            s->at += 2;
            return;
        }
        if (*s->at == '\n')
            s->line++;
    }
    s->line = line;
    s->why = "a comment is not closed; /* ends with */";
}

static void scan_line_comment(struct scan *s)
{
    while (s->at < s->end && *s->at != '\n')
        s->at++;
}

static void scan_sign(struct scan *s)
{
    uint8_t sign = *s->at++;
    s->last = strchr(" \t\r\n", sign) ? s->last : sign;
    switch (sign) {
    case '\n': s->line++; break;
    case '(':
    case '[':
        s->why = "lists are not taken; a setting is a number, a text, true, false or a { group; }";
        break;
    case '{':
        if (++s->depth > GT_CONFIGSCAN_DEPTH)
            s->why = "groups are nested too deep; server = { port = 7000; } is one level";
        break;
    case '}':
        if (s->depth-- == 0)
            s->why = "a bracket is closed that was not opened";
        break;
    case '=':
    case ':':
        if (++s->n_settings > GT_CONFIGSCAN_SETTINGS)
            s->why = "too many settings; at most 1000 in a file";
        break;
    case '@': s->why = "@include is not taken; put a file into the .conf.d folder instead"; break;
    default:
        if (!strchr(" \t\r,;", sign))
            s->why = "a sign that means nothing here; a setting is name = value;";
        break;
    }
}

static void scan_name(struct scan *s)
{
    s->last = 0;
    scan_while(s, is_in_name);
}

static void scan_step(struct scan *s)
{
    if (scan_is_at(s, "/*"))
        scan_block_comment(s);
    else if (scan_is_at(s, "//") || *s->at == '#')
        scan_line_comment(s);
    else if (*s->at == '"')
        scan_string(s);
    else if (is_letter(*s->at) || *s->at == '*')
        scan_name(s);
    else if (is_in_number(*s->at))
        scan_number(s);
    else
        scan_sign(s);
}

int gt_configscan(struct gt_span text, unsigned *ret_line, const char **ret_why)
{
    struct scan s = {.at = text.data, .end = text.data + text.n, .line = 1};

    if (scan_is_at(&s, "\xef\xbb\xbf"))
        s.why = "the file begins with a byte order mark; save it as UTF-8 without one";
    else if (memchr(text.data, 0, text.n))
        s.why = "the file holds a NUL byte; it is no text";
    while (!s.why && s.at < s.end)
        scan_step(&s);
    if (!s.why && s.depth)
        s.why = "a bracket is not closed; a group ends with };";
    if (!s.why)
        return 0;
    *ret_line = s.line;
    *ret_why = s.why;
    return GT_CONFIGSCAN_E_BAD;
}
