/* SPDX-License-Identifier: ISC */
/*
 * A secret in a file; see the header. A text that could be meant in two ways is an error. Quotes
 * are syntax in a line VARIABLE=secret only: a file with the secret alone has it verbatim.
 */
#include "gotthard/config/config-secret.h"

#include <string.h>

#define BOM "\xef\xbb\xbf"

static char *skip_blanks(char *text)
{
    return text + strspn(text, " \t");
}

/* Removes the characters of @set from the end. */
static void trim_end(char *text, const char *set)
{
    size_t n = strlen(text);

    while (n && strchr(set, text[n - 1]))
        text[--n] = 0;
}

/* Returns the line after @line, or NULL. */
static char *next_line(char *line)
{
    char *end = strchr(line, '\n');

    return end ? end + 1 : NULL;
}

/* Returns the text after "VARIABLE=", or NULL. *ret_is_spaced: blanks precede the sign. */
static char *value_of(char *line, const char *variable, bool *ret_is_spaced)
{
    size_t n = strlen(variable);

    line = skip_blanks(line);
    if (strncmp(line, "export ", 7) == 0)
        line = skip_blanks(line + 7);
    if (strncmp(line, variable, n) != 0)
        return NULL;
    char *sign = skip_blanks(line + n);
    if (*sign != '=')
        return NULL;
    *ret_is_spaced = sign != line + n;
    return skip_blanks(sign + 1);
}

/* Removes quotes around the value. Returns false if only one end has them. */
static bool unquote(char **value)
{
    size_t n = strlen(*value);
    char quote = **value;

    if (quote != '"' && quote != '\'')
        return n == 0 || !strchr("\"'", (*value)[n - 1]);
    if (n < 2 || (*value)[n - 1] != quote)
        return false;
    (*value)[n - 1] = 0;
    (*value)++;
    return !strchr(*value, quote);
}

static const char *take_value(char *value, char **ret_secret)
{
    value[strcspn(value, "\n")] = 0;
    trim_end(value, " \t\r");
    if (!unquote(&value))
        return "unclosed quote";
    *ret_secret = value;
    return *value ? NULL : "empty file or variable, expected a secret";
}

/* A file without the variable. A line of another variable must not become the secret. */
static const char *take_whole(char *text, char **ret_secret)
{
    text += strspn(text, "\r\n");
    trim_end(text, "\r\n");
    if (strchr(text, '\n'))
        return "several lines, expected the secret alone or a line VARIABLE=secret";
    if (strstr(text, "GOTTHARD_") || strncmp(skip_blanks(text), "export ", 7) == 0)
        return "has no line with the expected variable";
    *ret_secret = text;
    return NULL;
}

const char *gt_configsecret_find(char *text, const char *variable, char **ret_secret)
{
    char *found = NULL;
    bool is_spaced = false;

    if (strncmp(text, BOM, strlen(BOM)) == 0)
        text += strlen(BOM);
    if (text[strspn(text, " \t\r\n")] == 0)
        return "empty file or variable, expected a secret";
    for (char *line = text; line; line = next_line(line)) {
        char *value = value_of(line, variable, &is_spaced);

        if (value && found)
            return "the variable is given twice";
        if (value && is_spaced)
            return "blanks before the = of the variable";
        found = value ? value : found;
    }
    return found ? take_value(found, ret_secret) : take_whole(text, ret_secret);
}
