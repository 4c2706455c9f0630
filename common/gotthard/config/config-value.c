/* SPDX-License-Identifier: ISC */
/*
 * One parser for each type, whether the text came from a file, a variable, a flag or the table.
 * An error never repeats a secret, and repeats anything else escaped and cut.
 */
#include "gotthard/configvalue.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "gotthard/crypto.h"

#define MAP_MAX 256

int gt_configvalue_bad(char *ret_error, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(ret_error, GT_CONFIG_ERROR_MAX, fmt, args);
    va_end(args);
    return GT_CONFIG_E_BAD;
}

bool gt_configvalue_is_string(enum gt_config_type type)
{
    switch (type) {
    case GT_CONFIG_STRING:
    case GT_CONFIG_NAME:
    case GT_CONFIG_HOST:
    case GT_CONFIG_PATH:
    case GT_CONFIG_SECRET: return true;
    case GT_CONFIG_NUMBER:
    case GT_CONFIG_BOOL:
    case GT_CONFIG_DURATION:
    case GT_CONFIG_SIZE:
    case GT_CONFIG_CHOICE:
    case GT_CONFIG_MAP: return false;
    }
    return false;
}

/* The number with the greatest unit that divides it. */
struct unit {
    uint64_t factor;
    const char *name;
};
static const struct unit durations[] = {{86400000, "d"}, {3600000, "h"}, {60000, "min"},
                                        {1000, "s"},     {1, "ms"},      {0, NULL}};
static const struct unit sizes[] = {
    {1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}, {1, "B"}, {0, NULL}};

static const char *unit_format(const struct unit *unit, uint64_t value, char *ret, size_t cap)
{
    while (unit[1].name && (value % unit->factor || value < unit->factor))
        unit++;
    snprintf(ret, cap, "%" PRIu64 "%s", value / unit->factor, value ? unit->name : "");
    return ret;
}

static const char *wanted_range(const struct gt_config_item *item, const char *what,
                                const struct unit *units, char *ret, size_t cap)
{
    char min[32], max[32];
    if (item->max == UINT64_MAX)
        snprintf(ret, cap, "%s, %s or more", what, unit_format(units, item->min, min, sizeof(min)));
    else
        snprintf(ret, cap, "%s from %s to %s", what,
                 unit_format(units, item->min, min, sizeof(min)),
                 unit_format(units, item->max, max, sizeof(max)));
    return ret;
}

const char *gt_configvalue_wanted(const struct gt_config_item *item, char *ret, size_t cap)
{
    static const struct unit plain[] = {{1, ""}, {0, NULL}};
    const char *what = "";

    switch (item->type) {
    case GT_CONFIG_NUMBER: return wanted_range(item, "a whole number", plain, ret, cap);
    case GT_CONFIG_DURATION:
        return wanted_range(item, "a duration such as \"30s\"", durations, ret, cap);
    case GT_CONFIG_SIZE: return wanted_range(item, "a size such as \"64KiB\"", sizes, ret, cap);
    case GT_CONFIG_CHOICE: snprintf(ret, cap, "one of: %s", item->choices); return ret;
    case GT_CONFIG_STRING: what = "a text"; break;
    case GT_CONFIG_NAME:
        what = "a name: letters, digits and . _ : @ -, at most 128, a letter or digit first";
        break;
    case GT_CONFIG_HOST: what = "a host name or an address, without scheme and port"; break;
    case GT_CONFIG_PATH: what = "a path"; break;
    case GT_CONFIG_SECRET: what = "a secret"; break;
    case GT_CONFIG_BOOL: what = "true or false"; break;
    case GT_CONFIG_MAP: what = "a group of texts: { name = \"value\"; }"; break;
    }
    snprintf(ret, cap, "%s", what);
    return ret;
}

/* One UTF-8 sequence (RFC 3629) of a printable character: its length, or 0. */
static size_t printable(const uint8_t *at)
{
    static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t n = *at < 0x80 ? 1 : *at >> 5 == 6 ? 2 : *at >> 4 == 14 ? 3 : *at >> 3 == 30 ? 4 : 0;
    if (n == 0)
        return 0;
    uint32_t code = n == 1 ? *at : *at & (0x7fU >> n);
    for (size_t i = 1; i < n; i++) {
        if (at[i] >> 6 != 2)
            return 0;
        code = code << 6 | (at[i] & 0x3f);
    }
    bool is_control = code < 0x20 || (code >= 0x7f && code < 0xa0);
    bool is_surrogate = code >= 0xd800 && code < 0xe000;
    return is_control || is_surrogate || code < smallest[n] || code > 0x10ffff ? 0 : n;
}

static bool is_printable(const char *text)
{
    for (const uint8_t *at = (const uint8_t *)text; *at;) {
        size_t n = printable(at);
        if (n == 0)
            return false;
        at += n;
    }
    return true;
}

void gt_configvalue_forget(char *text)
{
    if (text)
        gt_wipe(text, strlen(text));
    free(text);
}

static void *item_place(const struct gt_config_item *item, void *settings)
{
    return (char *)settings + item->offset;
}

static void map_free(struct gt_config_map *map)
{
    for (size_t i = 0; i < map->n_pairs; i++) {
        free(map->pairs[i].name);
        free(map->pairs[i].value);
    }
    free(map->pairs);
    *map = (struct gt_config_map){NULL, 0};
}

void gt_configvalue_unset(const struct gt_config_item *item, void *settings)
{
    void *place = item_place(item, settings);
    switch (item->type) {
    case GT_CONFIG_STRING:
    case GT_CONFIG_NAME:
    case GT_CONFIG_HOST:
    case GT_CONFIG_PATH:
    case GT_CONFIG_SECRET:
    case GT_CONFIG_CHOICE:
        gt_configvalue_forget(*(char **)place);
        *(char **)place = NULL;
        break;
    case GT_CONFIG_MAP: map_free(place); break;
    case GT_CONFIG_NUMBER:
    case GT_CONFIG_BOOL:
    case GT_CONFIG_DURATION:
    case GT_CONFIG_SIZE: break;
    }
}

const char *gt_config_map_get(const struct gt_config_map *map, const char *name)
{
    for (size_t i = 0; i < map->n_pairs; i++)
        if (strcmp(map->pairs[i].name, name) == 0)
            return map->pairs[i].value;
    return NULL;
}

/* "name=value" of @n bytes. */
static int map_add(struct gt_config_map *map, const char *text, size_t n)
{
    const char *sign = memchr(text, '=', n);
    if (!sign || map->n_pairs == MAP_MAX)
        return GT_TEXT_E_SYNTAX;
    size_t n_name = (size_t)(sign - text);
    if (!gt_text_is_name(gt_span(text, n_name)) || n_name + 1 == n)
        return GT_TEXT_E_SYNTAX;

    gt_cleanup(gt_free) char *name = strndup(text, n_name);
    gt_cleanup(gt_free) char *value = strndup(sign + 1, n - n_name - 1);
    struct gt_config_pair *pairs = reallocarray(map->pairs, map->n_pairs + 1, sizeof(*map->pairs));
    if (pairs)
        map->pairs = pairs;
    if (!name || !value || !pairs)
        return -ENOMEM;
    if (gt_config_map_get(map, name))
        return GT_TEXT_E_SYNTAX;
    map->pairs[map->n_pairs++] = (struct gt_config_pair){gt_steal(&name), gt_steal(&value)};
    return 0;
}

static int map_set(struct gt_config_map *map, const char *text)
{
    struct gt_config_map fresh = {NULL, 0};
    while (*text) {
        size_t n = strcspn(text, ",");
        int r = map_add(&fresh, text, n);
        if (r == 0 && text[n] == ',' && text[n + 1] == 0)
            r = GT_TEXT_E_SYNTAX;
        if (r != 0) {
            map_free(&fresh);
            return r;
        }
        text += n + (text[n] == ',');
    }
    map_free(map);
    *map = fresh;
    return 0;
}

static int string_set(const struct gt_config_item *item, void *settings, const char *text)
{
    char *copy = strdup(text);
    if (!copy)
        return -ENOMEM;
    gt_configvalue_unset(item, settings);
    *(char **)item_place(item, settings) = copy;
    return 0;
}

static bool is_choice(const char *choices, const char *text)
{
    size_t n = strlen(text);
    for (const char *at = choices; *at; at += strspn(at, " ")) {
        size_t n_word = strcspn(at, " ");
        if (n > 0 && n_word == n && memcmp(at, text, n) == 0)
            return true;
        at += n_word;
    }
    return false;
}

static int in_range(const struct gt_config_item *item, int r, uint64_t value, void *place)
{
    if (r == 0 && (value < item->min || value > item->max))
        r = GT_TEXT_E_RANGE;
    if (r == 0)
        *(uint64_t *)place = value;
    return r;
}

/* 0, -ENOMEM, or one of GT_TEXT_E_*. */
static int item_parse(const struct gt_config_item *item, void *settings, const char *text)
{
    void *place = item_place(item, settings);
    uint64_t value = 0;
    bool is_right = true;
    int r;

    switch (item->type) {
    case GT_CONFIG_NUMBER:
        r = gt_text_number(text, item->min, item->max, &value);
        return in_range(item, r, value, place);
    case GT_CONFIG_DURATION:
        r = gt_text_duration(text, &value);
        return in_range(item, r, value, place);
    case GT_CONFIG_SIZE: r = gt_text_size(text, &value); return in_range(item, r, value, place);
    case GT_CONFIG_BOOL: return gt_text_bool(text, place);
    case GT_CONFIG_MAP: return map_set(place, text);
    case GT_CONFIG_NAME: is_right = gt_text_is_name(gt_span_text(text)); break;
    case GT_CONFIG_HOST: is_right = gt_text_is_host(text); break;
    case GT_CONFIG_CHOICE: is_right = is_choice(item->choices, text); break;
    case GT_CONFIG_STRING:
    case GT_CONFIG_PATH:
    case GT_CONFIG_SECRET: break;
    }
    return is_right ? string_set(item, settings, text) : GT_TEXT_E_SYNTAX;
}

int gt_configvalue_set(const struct gt_config_item *item, void *settings, const char *text,
                       const char *origin, char *ret_error)
{
    char wanted[192], shown[64];
    const char *wrong = "is not right";

    int r = strlen(text) > GT_CONFIGVALUE_MAX ? GT_TEXT_E_RANGE
            : is_printable(text)              ? item_parse(item, settings, text)
                                              : GT_TEXT_E_SYNTAX;
    if (r <= 0)
        return r;
    if (strlen(text) > GT_CONFIGVALUE_MAX)
        wrong = "is longer than 4096 bytes";
    else if (!is_printable(text))
        wrong = "is not printable UTF-8 on one line";
    else if (r == GT_TEXT_E_RANGE)
        wrong = "is out of range";
    if (item->type == GT_CONFIG_SECRET)
        return gt_configvalue_bad(ret_error, "%s: %s %s", origin, item->path, wrong);
    gt_text_escape(gt_span_text(text), shown, sizeof(shown));
    return gt_configvalue_bad(ret_error, "%s: %s: \"%s\" %s; it takes %s", origin, item->path,
                              shown, wrong, gt_configvalue_wanted(item, wanted, sizeof(wanted)));
}
