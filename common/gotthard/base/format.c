/* SPDX-License-Identifier: ISC */
/*
 * One pass over the format with a small state: whether the position is in free text, in the value
 * of a field, or in quotes. Numbers are formatted by libc, text never is.
 */
#include "gotthard/base/format.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "gotthard/base/text.h"

enum place { FREE, VALUE, QUOTED };

struct line {
    enum gt_format_form form;
    char *ret;
    size_t cap, n; /* n: without the limit of cap */
    enum place place;
    char last;                       /* the last character in FREE */
    char value[GT_FORMAT_VALUE_MAX]; /* VALUE: raw, until its end is known */
    size_t n_value;                  /* without the limit of its size */
    size_t n_quoted;                 /* QUOTED: escaped bytes of the arguments */
    bool is_cut_in_quotes;
};

struct conversion {
    char spec[24]; /* flags, width and precision in digits, length, type */
    bool is_left, has_precision;
    int width, precision;
    char length; /* 'h', 'H' (hh), 'l', 'L' (ll), 'z', 'j', 't' or 0 */
    char type;
};

static void put(struct line *line, char c)
{
    if (line->n + 1 < line->cap)
        line->ret[line->n] = c;
    else if (line->n + 1 == line->cap)
        line->is_cut_in_quotes = line->place != FREE;
    line->n++;
}

/* @special: characters to escape beside those that are not printable ASCII. */
static size_t put_escaped(struct line *line, char c, const char *special)
{
    static const char digits[] = "0123456789abcdef";
    uint8_t byte = (uint8_t)c;

    if (byte >= 0x20 && byte < 0x7f && !strchr(special, c)) {
        put(line, c);
        return 1;
    }
    put(line, '\\');
    put(line, 'x');
    put(line, digits[byte >> 4]);
    put(line, digits[byte & 15]);
    return 4;
}

static void put_quoted(struct line *line, char c)
{
    if (line->n_quoted > GT_FORMAT_VALUE_MAX)
        return;
    line->n_quoted += put_escaped(line, c, "\"\\");
    for (int i = 0; i < 3 && line->n_quoted > GT_FORMAT_VALUE_MAX; i++)
        put(line, '.');
}

static bool is_plain(const char *value, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (value[i] <= ' ' || value[i] > '~' || strchr("\"=\\", value[i]))
            return false;
    return n > 0;
}

/* Writes the collected value. */
static void end_value(struct line *line)
{
    size_t n = GT_MIN(line->n_value, sizeof(line->value));
    bool is_quoted = !is_plain(line->value, n);

    line->n_quoted = 0;
    if (is_quoted)
        put(line, '"');
    for (size_t i = 0; i < n; i++)
        put_quoted(line, line->value[i]);
    if (line->n_value > n && line->n_quoted <= GT_FORMAT_VALUE_MAX)
        for (int i = 0; i < 3; i++)
            put(line, '.');
    if (is_quoted)
        put(line, '"');
    line->place = FREE;
}

static void add_to_value(struct line *line, char c)
{
    if (line->n_value < sizeof(line->value))
        line->value[line->n_value] = c;
    line->n_value++;
}

/* A character of an argument. */
static void put_text(struct line *line, char c)
{
    if (line->form == GT_FORMAT_TEXT) {
        put_escaped(line, c, "");
        return;
    }
    switch (line->place) {
    case VALUE: add_to_value(line, c); return;
    case QUOTED: put_quoted(line, c); return;
    case FREE: break;
    }
    put_escaped(line, c, line->last == ' ' ? "\\" : "\\=");
    line->last = c;
}

static void begin_value(struct line *line)
{
    put(line, '=');
    line->place = VALUE;
    line->n_value = line->n_quoted = 0;
}

/* A character of the format, or of fields that are formatted already. */
static void put_literal(struct line *line, char c)
{
    bool is_first = line->n_value == 0;

    if (line->form == GT_FORMAT_TEXT) {
        put(line, c);
    } else if (line->place == FREE && c == '=' && line->last != ' ') {
        begin_value(line);
    } else if (line->place == VALUE && c == '"' && is_first) {
        put(line, '"');
        line->place = QUOTED;
    } else if (line->place == VALUE && c != ' ') {
        add_to_value(line, c);
    } else {
        if (line->place == VALUE)
            end_value(line);
        else if (line->place == QUOTED && c == '"')
            line->place = FREE;
        put_escaped(line, c, "");
        line->last = c;
    }
}

/* --- conversions ---------------------------------------------------------------------------- */

static const char *parse_number(const char *at, int *ret)
{
    for (; *at >= '0' && *at <= '9'; at++)
        *ret = GT_MIN(*ret * 10 + (*at - '0'), 10000);
    return at;
}

static const char *parse_length(const char *at, char *ret)
{
    if (!*at || !strchr("hlzjt", *at))
        return at;
    *ret = *at;
    if ((at[0] == 'h' || at[0] == 'l') && at[1] == at[0]) {
        *ret = at[0] == 'h' ? 'H' : 'L';
        return at + 2;
    }
    return at + 1;
}

/* Parses the conversion after a '%'. Returns the first character after it. */
static const char *parse_conversion(const char *at, va_list *args, struct conversion *ret)
{
    size_t n_flags = strspn(at, "-+ #0");
    char flags[8] = "", precision[12] = "", width[12] = "";

    memcpy(flags, at, GT_MIN(n_flags, sizeof(flags) - 1));
    ret->is_left = strchr(flags, '-');
    at += n_flags;
    if (*at == '*') {
        ret->width = va_arg(*args, int);
        at++;
    } else {
        at = parse_number(at, &ret->width);
    }
    ret->has_precision = *at == '.';
    if (ret->has_precision && at[1] == '*') {
        ret->precision = va_arg(*args, int);
        at += 2;
    } else if (ret->has_precision) {
        at = parse_number(at + 1, &ret->precision);
    }
    at = parse_length(at, &ret->length);
    ret->type = *at;
    if (ret->width != 0)
        snprintf(width, sizeof(width), "%d", ret->width);
    if (ret->has_precision)
        snprintf(precision, sizeof(precision), ".%d", ret->precision);
    snprintf(ret->spec, sizeof(ret->spec), "%%%s%.6s%.7s", flags, width, precision);
    return *at ? at + 1 : at;
}

static intmax_t take_signed(char length, va_list *args)
{
    switch (length) {
    case 'H': return (signed char)va_arg(*args, int);
    case 'h': return (short)va_arg(*args, int);
    case 'l': return va_arg(*args, long);
    case 'L': return va_arg(*args, long long);
    case 'z': return va_arg(*args, ssize_t);
    case 'j': return va_arg(*args, intmax_t);
    case 't': return va_arg(*args, ptrdiff_t);
    default: return va_arg(*args, int);
    }
}

static uintmax_t take_unsigned(char length, va_list *args)
{
    switch (length) {
    case 'H': return (unsigned char)va_arg(*args, unsigned);
    case 'h': return (unsigned short)va_arg(*args, unsigned);
    case 'l': return va_arg(*args, unsigned long);
    case 'L': return va_arg(*args, unsigned long long);
    case 'z': return va_arg(*args, size_t);
    case 'j': return va_arg(*args, uintmax_t);
    case 't': return (uintmax_t)va_arg(*args, ptrdiff_t);
    default: return va_arg(*args, unsigned);
    }
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral" /* built from a checked format */

/* Returns false for an unknown type. */
static bool put_number(struct line *line, struct conversion *conversion, va_list *args)
{
    char digits[128], *spec = conversion->spec;
    size_t n = strlen(spec);
    char type = conversion->type;

    if (type && strchr("diuxXo", type)) {
        spec[n++] = 'j';
        spec[n++] = type;
        spec[n] = 0;
        if (type == 'd' || type == 'i')
            snprintf(digits, sizeof(digits), spec, take_signed(conversion->length, args));
        else
            snprintf(digits, sizeof(digits), spec, take_unsigned(conversion->length, args));
    } else if (type && strchr("feg", type)) {
        spec[n++] = type;
        spec[n] = 0;
        snprintf(digits, sizeof(digits), spec, va_arg(*args, double));
    } else if (type == 'p') {
        snprintf(digits, sizeof(digits), "%p", va_arg(*args, void *));
    } else {
        return false;
    }
    for (const char *at = digits; *at; at++)
        put_text(line, *at);
    return true;
}

#pragma GCC diagnostic pop

static void put_string(struct line *line, const struct conversion *conversion, const char *text)
{
    size_t most = conversion->has_precision && conversion->precision >= 0
                      ? (size_t)conversion->precision
                      : SIZE_MAX;
    size_t n = strnlen(text, most), width = (size_t)abs(conversion->width);
    size_t n_blank = width > n ? width - n : 0;
    bool is_left = conversion->is_left || conversion->width < 0;
    bool is_formatted = conversion->is_left && width == 0;

    for (size_t i = 0; i < n_blank && !is_left; i++)
        put_text(line, ' ');
    for (size_t i = 0; i < n; i++)
        if (is_formatted)
            put_literal(line, text[i]);
        else
            put_text(line, text[i]);
    for (size_t i = 0; i < n_blank && is_left; i++)
        put_text(line, ' ');
}

static bool put_conversion(struct line *line, struct conversion *conversion, va_list *args)
{
    if (conversion->type == 's') {
        const char *text = va_arg(*args, const char *);

        put_string(line, conversion, text ? text : "(null)");
    } else if (conversion->type == 'c') {
        put_text(line, (char)va_arg(*args, int));
    } else if (conversion->type == '%') {
        put_literal(line, '%');
    } else {
        return put_number(line, conversion, args);
    }
    return true;
}

/* --- the whole line ------------------------------------------------------------------------- */

static void finish(struct line *line)
{
    if (line->place == VALUE)
        end_value(line);
    if (line->cap == 0)
        return;
    if (line->n < line->cap) {
        line->ret[line->n] = 0;
        return;
    }
    line->ret[line->cap - 1] = 0;
    if (line->is_cut_in_quotes && line->form == GT_FORMAT_LOG && line->cap > 1)
        line->ret[line->cap - 2] = '"';
}

size_t gt_vformat(enum gt_format_form form, char *ret, size_t cap, const char *fmt, va_list args)
{
    struct line line = {.form = form, .ret = ret, .cap = cap, .last = ' '};
    va_list copy; /* va_list may be an array type, whose address differs as a parameter */

    va_copy(copy, args);
    for (const char *at = fmt; *at;) {
        if (*at != '%') {
            put_literal(&line, *at++);
            continue;
        }
        struct conversion conversion = {0};
        at = parse_conversion(at + 1, &copy, &conversion);
        if (!put_conversion(&line, &conversion, &copy))
            break;
    }
    va_end(copy);
    finish(&line);
    return line.n;
}

size_t gt_format(enum gt_format_form form, char *ret, size_t cap, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    size_t n = gt_vformat(form, ret, cap, fmt, args);
    va_end(args);
    return n;
}
