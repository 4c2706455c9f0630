/* SPDX-License-Identifier: ISC */
/*
 * A usage is read word by word. The words inside a name in capitals give its meaning. Options are
 * described elsewhere and left out, with their values.
 */
#include "usage-slots.h"

#include <stdbool.h>
#include <string.h>

#define ALTERNATIVE " | "
#define N_DOTS      (sizeof("...") - 1)

struct word {
    const char *text;
    size_t n;
    bool repeats;
};

static bool contains(struct word word, const char *name)
{
    return memmem(word.text, word.n, name, strlen(name)) != NULL;
}

static bool has_capital(struct word word)
{
    for (size_t i = 0; i < word.n; i++)
        if (word.text[i] >= 'A' && word.text[i] <= 'Z')
            return true;
    return false;
}

static int depth(struct word word)
{
    int n = 0;

    for (size_t i = 0; i < word.n; i++)
        n += (word.text[i] == '[') - (word.text[i] == ']');
    return n;
}

/* Reads the next word of [*at, end). Returns false at the end. */
static bool next_word(const char **at, const char *end, struct word *ret)
{
    while (*at < end && **at == ' ')
        ++*at;
    const char *blank = memchr(*at, ' ', (size_t)(end - *at));
    *ret = (struct word){.text = *at, .n = (size_t)((blank ? blank : end) - *at)};
    *at += ret->n;
    if (ret->n >= N_DOTS && memcmp(ret->text + ret->n - N_DOTS, "...", N_DOTS) == 0) {
        ret->n -= N_DOTS;
        ret->repeats = true;
    }
    return ret->n > 0;
}

/* As next_word(), without options ("[--on" and the value of it, if that is in the same brackets or
 * if it has none). */
static bool next_argument(const char **at, const char *end, struct word *ret)
{
    while (next_word(at, end, ret)) {
        size_t n_open = strspn(ret->text, "[");

        if (n_open >= ret->n || ret->text[n_open] != '-')
            return true;
        bool is_closed = depth(*ret) <= 0, is_separator = ret->n == 2 && ret->text[1] == '-';
        if ((n_open == 0 && !is_separator) || !is_closed)
            (void)next_word(at, end, ret);
    }
    return false;
}

/* Removes the brackets around a word: "[PATTERN]", "[device", "relay]". */
static struct word strip(struct word word)
{
    while (word.n > 0 && (word.text[0] == '[' || word.text[0] == ']')) {
        word.text++;
        word.n--;
    }
    while (word.n > 0 && (word.text[word.n - 1] == ']' || word.text[word.n - 1] == '['))
        word.n--;
    return word;
}

static bool is_literal(const char *usage, struct word word)
{
    return !has_capital(word) && (depth(word) == 0 || strstr(usage, ALTERNATIVE));
}

static enum usage_slot meaning(const char *usage, struct word word)
{
    if (!has_capital(word))
        return USAGE_REST; /* "[ssh arguments]" */
    if (contains(word, "SERVICE"))
        return USAGE_SERVICE;
    if (contains(word, "TAG="))
        return USAGE_TAG;
    if (contains(word, "DEVICE") || contains(word, "PATTERN"))
        return USAGE_DEVICE;
    if (contains(word, "ARGUMENT"))
        return USAGE_REST;
    if (contains(word, "COMMAND"))
        return strcmp(usage, "[COMMAND]") == 0 ? USAGE_COMMAND : USAGE_REST;
    return USAGE_FREE;
}

/* Calls @on_word for each of the words "bash|zsh|fish". Returns true if one equals @argument. */
static bool each_literal(struct word word, const char *argument, usage_slot_fn on_word,
                         void *userdata)
{
    bool is_equal = false;

    for (word = strip(word); word.n > 0;) {
        const char *bar = memchr(word.text, '|', word.n);
        size_t n = bar ? (size_t)(bar - word.text) : word.n;

        is_equal |= argument && strlen(argument) == n && memcmp(argument, word.text, n) == 0;
        if (on_word)
            on_word(userdata, USAGE_FREE, word.text, n);
        n += bar != NULL;
        word.text += n;
        word.n -= n;
    }
    return is_equal;
}

static bool ends_with_dots(const char *usage)
{
    size_t n = strlen(usage);

    return n >= N_DOTS && strcmp(usage + n - N_DOTS, "...") == 0;
}

static void one_alternative(const char *usage, const char *at, const char *end,
                            const char *const *arguments, size_t n_arguments, usage_slot_fn on_slot,
                            void *userdata)
{
    struct word word = {0};
    bool repeats = strstr(usage, ALTERNATIVE) && ends_with_dots(usage);

    for (size_t i = 0; i <= n_arguments; i++) {
        struct word next;

        if (next_argument(&at, end, &next)) {
            word = next;
            repeats |= word.repeats;
        } else if (!repeats || word.n == 0) {
            return;
        }
        if (!has_capital(word) && !is_literal(usage, word)) {
            on_slot(userdata, USAGE_REST, NULL, 0);
            return;
        }
        if (i < n_arguments && is_literal(usage, word) &&
            !each_literal(word, arguments[i], NULL, NULL))
            return;
    }
    if (is_literal(usage, word))
        each_literal(word, NULL, on_slot, userdata);
    else
        on_slot(userdata, meaning(usage, word), NULL, 0);
}

void usage_slots(const char *usage, const char *const *arguments, size_t n_arguments,
                 usage_slot_fn on_slot, void *userdata)
{
    const char *bar;

    for (const char *at = usage; at; at = bar ? bar + strlen(ALTERNATIVE) : NULL) {
        bar = strstr(at, ALTERNATIVE);
        one_alternative(usage, at, bar ? bar : at + strlen(at), arguments, n_arguments, on_slot,
                        userdata);
    }
}
