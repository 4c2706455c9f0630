/* SPDX-License-Identifier: ISC */
/*
 * The scan before libconfig. It has the tokens of libconfig's lexer (names, numbers, strings, three
 * kinds of comment, punctuation) and rejects input that the two could read differently. It must
 * never allocate, recurse, or accept an unknown token.
 */
#include "gotthard/config/config-scan.h"

#include <stdio.h>
#include <strings.h>

#include "gotthard/base/text.h"

/* A name that has a value. */
struct setting {
    struct gt_span name;
    unsigned line;
    unsigned group; /* number of the group, or 0 for the top */
};

struct scan {
    const uint8_t *at, *end;
    unsigned line;
    unsigned depth, n_settings, n_groups;
    uint8_t last;        /* the token before: punctuation, '"' for a text, 0 for a name or number */
    struct gt_span name; /* the last one without a value, or empty */
    const char *why;     /* of the rejection; NULL: none so far */
    struct {
        unsigned group;
        struct gt_span name;
    } above[GT_CONFIG_SCAN_DEPTH + 1]; /* the groups around this place; [0]: the top */
    struct setting settings[GT_CONFIG_SCAN_SETTINGS];
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
            s->why = "a number must be decimal digits, without sign, point, exponent, 0x or suffix";
            return;
        }
    if (word.n > 1 && word.data[0] == '0') {
        s->why = "a number must not begin with 0";
        return;
    }
    memcpy(text, word.data, GT_MIN(word.n, sizeof(text) - 1));
    if (word.n >= sizeof(text) || gt_text_number(text, 0, INT32_MAX, &value) != 0)
        s->why = "number too large, at most 2147483647 (durations and sizes are texts with a "
                 "unit)";
}

static void scan_string(struct scan *s)
{
    /* libconfig leaks the memory of an unexpected text. */
    if (!s->last || !strchr("=:\"", s->last)) {
        s->why = "unexpected text; expected name = \"text\";";
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
            s->why = "a backslash in a text must precede \\ or \"";
            return;
        }
    }
    s->why = "unclosed text; it must end with \" on the same line";
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
    s->why = "unclosed comment; /* must end with */";
}

static void scan_line_comment(struct scan *s)
{
    while (s->at < s->end && *s->at != '\n')
        s->at++;
}

/* Writes "server.port" for the setting @name at this place. */
static void format_path(const struct scan *s, struct gt_span name, char *ret, size_t cap)
{
    size_t n = 0;

    for (unsigned i = 1; i <= s->depth && n + 50 < cap; i++)
        n +=
            (size_t)snprintf(ret + n, cap - n, "%.*s.", (int)GT_MIN(s->above[i].name.n, (size_t)40),
                             (const char *)s->above[i].name.data);
    snprintf(ret + n, cap - n, "%.*s", (int)GT_MIN(name.n, (size_t)40), (const char *)name.data);
}

/* libconfig's own message does not contain the name. */
static void reject_duplicate(struct scan *s, const struct setting *first)
{
    static _Thread_local char why[320];
    char path[256];

    format_path(s, first->name, path, sizeof(path));
    snprintf(why, sizeof(why), "%s is given twice (first at line %u)", path, first->line);
    s->why = why;
}

/* At the sign after a name. */
static void scan_add_setting(struct scan *s)
{
    struct setting setting = {s->name, s->line, s->above[s->depth].group};

    for (unsigned i = 0; i < s->n_settings && s->name.n > 0; i++)
        if (s->settings[i].group == setting.group &&
            gt_span_equals(s->settings[i].name, setting.name)) {
            reject_duplicate(s, &s->settings[i]);
            return;
        }
    if (s->n_settings == GT_CONFIG_SCAN_SETTINGS)
        s->why = "too many settings, at most 1000 in a file";
    else
        s->settings[s->n_settings++] = setting;
    s->name = gt_span("", 0);
}

static void scan_enter_group(struct scan *s)
{
    if (s->depth == GT_CONFIG_SCAN_DEPTH) {
        s->why = "groups are nested too deeply";
        return;
    }
    s->depth++;
    s->above[s->depth].group = ++s->n_groups;
    s->above[s->depth].name =
        s->n_settings > 0 ? s->settings[s->n_settings - 1].name : gt_span("", 0);
}

static void scan_punctuation(struct scan *s)
{
    uint8_t sign = *s->at++;

    s->last = strchr(" \t\r\n", sign) ? s->last : sign;
    switch (sign) {
    case '\n': s->line++; break;
    case '(':
    case '[':
        s->why = "lists are not supported; expected a number, a text, true, false or { a group }";
        break;
    case '{': scan_enter_group(s); break;
    case '}':
        if (s->depth-- == 0)
            s->why = "unexpected }";
        break;
    case '=':
    case ':': scan_add_setting(s); break;
    case '@': s->why = "@include is not supported; add a file to the .conf.d folder instead"; break;
    default:
        if (!strchr(" \t\r,;", sign))
            s->why = "unexpected character; expected name = value;";
        break;
    }
}

static bool is_bool(struct gt_span word)
{
    return (word.n == 4 && strncasecmp((const char *)word.data, "true", 4) == 0) ||
           (word.n == 5 && strncasecmp((const char *)word.data, "false", 5) == 0);
}

static void scan_name(struct scan *s)
{
    bool is_value = s->last == '=' || s->last == ':';

    s->last = 0;
    struct gt_span word = scan_while(s, is_in_name);
    if (!is_value)
        s->name = word;
    else if (!is_bool(word))
        s->why = "syntax error; a text must be in quotes: name = \"text\";";
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
        scan_punctuation(s);
}

int gt_config_scan(struct gt_span text, unsigned *ret_line, const char **ret_why)
{
    struct scan s;

    memset(&s, 0, offsetof(struct scan, settings));
    s.at = text.data;
    s.end = text.data + text.n;
    s.line = 1;

    if (scan_is_at(&s, "\xef\xbb\xbf"))
        s.why = "the file begins with a byte order mark; save it as UTF-8 without it";
    else if (memchr(text.data, 0, text.n))
        s.why = "the file contains a NUL byte";
    while (!s.why && s.at < s.end)
        scan_step(&s);
    if (!s.why && s.depth)
        s.why = "unclosed {; a group must end with };";
    if (!s.why)
        return 0;
    *ret_line = s.line;
    *ret_why = s.why;
    return GT_CONFIG_SCAN_E_BAD;
}
