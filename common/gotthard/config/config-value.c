/* SPDX-License-Identifier: ISC */
/*
 * One parser for each type, for texts from files, variables, flags and the table. A message must
 * never contain a secret; any other value appears in it escaped and truncated.
 */
#include "gotthard/config/config-value.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "gotthard/base/proxy.h"
#include "gotthard/crypto/crypto.h"

#define MAP_MAX 256

bool gt_config_variable(const struct gt_config_item *item, char ret[static GT_CONFIG_VARIABLE_MAX])
{
    ret[0] = 0;
    if (item->type == GT_CONFIG_MAP && !item->env)
        return false;
    snprintf(ret, GT_CONFIG_VARIABLE_MAX, "%s%s", item->env ? "" : "GOTTHARD_",
             item->env ? item->env : item->path);
    for (char *c = ret; !item->env && *c; c++)
        *c = (char)(*c == '.' ? '_' : *c >= 'a' && *c <= 'z' ? *c - 'a' + 'A' : *c);
    return true;
}

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
    case GT_CONFIG_PATHS:
    case GT_CONFIG_PROXY:
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

/* A unit and its factor, in tables from the largest to the smallest. */
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

/* "1 to 65535", or "1 or more". */
static const char *range(const struct gt_config_item *item, char *ret, size_t cap)
{
    static const struct unit plain[] = {{1, ""}, {0, NULL}};
    const struct unit *units = item->type == GT_CONFIG_DURATION ? durations
                               : item->type == GT_CONFIG_SIZE   ? sizes
                                                                : plain;
    char min[32], max[32];

    unit_format(units, item->min, min, sizeof(min));
    if (item->max == UINT64_MAX)
        snprintf(ret, cap, "%s or more", min);
    else
        snprintf(ret, cap, "%s to %s", min, unit_format(units, item->max, max, sizeof(max)));
    return ret;
}

const char *gt_configvalue_form(const struct gt_config_item *item, char *ret, size_t cap)
{
    char limits[72];
    const char *form = "";

    switch (item->type) {
    case GT_CONFIG_NUMBER:
        snprintf(ret, cap, "number, %s", range(item, limits, sizeof(limits)));
        return ret;
    case GT_CONFIG_DURATION:
        snprintf(ret, cap, "duration, %s", range(item, limits, sizeof(limits)));
        return ret;
    case GT_CONFIG_SIZE:
        snprintf(ret, cap, "size, %s", range(item, limits, sizeof(limits)));
        return ret;
    case GT_CONFIG_CHOICE: snprintf(ret, cap, "one of: %s", item->choices); return ret;
    case GT_CONFIG_STRING: form = "text"; break;
    case GT_CONFIG_NAME: form = "name"; break;
    case GT_CONFIG_HOST: form = "host name or address"; break;
    case GT_CONFIG_PATH: form = "path"; break;
    case GT_CONFIG_PATHS: form = "paths"; break;
    case GT_CONFIG_SECRET: form = "secret"; break;
    case GT_CONFIG_PROXY: form = "URL of a proxy"; break;
    case GT_CONFIG_BOOL: form = "true or false"; break;
    case GT_CONFIG_MAP: form = "group of texts"; break;
    }
    snprintf(ret, cap, "%s", form);
    return ret;
}

const char *gt_configvalue_wanted(const struct gt_config_item *item, char *ret, size_t cap)
{
    char limits[72];
    const char *form = "";

    switch (item->type) {
    case GT_CONFIG_NUMBER:
        snprintf(ret, cap, "a whole number from %s", range(item, limits, sizeof(limits)));
        return ret;
    case GT_CONFIG_DURATION:
        snprintf(ret, cap, "a duration such as \"30s\" from %s",
                 range(item, limits, sizeof(limits)));
        return ret;
    case GT_CONFIG_SIZE:
        snprintf(ret, cap, "a size such as \"64KiB\" from %s", range(item, limits, sizeof(limits)));
        return ret;
    case GT_CONFIG_CHOICE: snprintf(ret, cap, "one of: %s", item->choices); return ret;
    case GT_CONFIG_STRING: form = "a text"; break;
    case GT_CONFIG_NAME:
        form = "a name: letters, digits and . _ : @ -, at most 128, a letter or digit first";
        break;
    case GT_CONFIG_HOST: form = "a host name or an address, without scheme and port"; break;
    case GT_CONFIG_PATH: form = "a path"; break;
    case GT_CONFIG_PATHS: form = "paths, separated by blanks"; break;
    case GT_CONFIG_SECRET: form = "a secret"; break;
    case GT_CONFIG_PROXY: form = GT_PROXY_WANTED; break;
    case GT_CONFIG_BOOL: form = "true or false"; break;
    case GT_CONFIG_MAP: form = "a group of texts: { name = \"value\"; }"; break;
    }
    snprintf(ret, cap, "%s", form);
    return ret;
}

/* Returns the length of the printable UTF-8 character (RFC 3629) at @at, or 0. */
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

static void *item_member(const struct gt_config_item *item, void *settings)
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
    void *member = item_member(item, settings);
    switch (item->type) {
    case GT_CONFIG_STRING:
    case GT_CONFIG_NAME:
    case GT_CONFIG_HOST:
    case GT_CONFIG_PATH:
    case GT_CONFIG_PATHS:
    case GT_CONFIG_SECRET:
    case GT_CONFIG_PROXY:
    case GT_CONFIG_CHOICE:
        gt_configvalue_forget(*(char **)member);
        *(char **)member = NULL;
        break;
    case GT_CONFIG_MAP: map_free(member); break;
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

/* Adds "name=value" of @n bytes. */
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
    if (item->type == GT_CONFIG_HOST)
        gt_text_unroot_host(copy);
    gt_configvalue_unset(item, settings);
    *(char **)item_member(item, settings) = copy;
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

/* Returns true if @text is a proxy, or "none". */
static bool is_proxy(const char *text)
{
    struct gt_proxy proxy;
    bool is_valid = gt_proxy_parse(text, &proxy) == 0;

    gt_wipe(&proxy, sizeof(proxy));
    return is_valid;
}

bool gt_configvalue_is_usable(const struct gt_config_item *item, const char *text)
{
    return item->type != GT_CONFIG_PROXY ||
           (strlen(text) <= GT_CONFIGVALUE_MAX && is_printable(text) && is_proxy(text));
}

static int in_range(const struct gt_config_item *item, int r, uint64_t value, void *member)
{
    if (r == 0 && (value < item->min || value > item->max))
        r = GT_TEXT_E_RANGE;
    if (r == 0)
        *(uint64_t *)member = value;
    return r;
}

/* Returns 0, -ENOMEM, or one of GT_TEXT_E_*. */
static int item_parse(const struct gt_config_item *item, void *settings, const char *text)
{
    void *member = item_member(item, settings);
    uint64_t value = 0;
    bool is_valid = true;
    int r;

    switch (item->type) {
    case GT_CONFIG_NUMBER:
        r = gt_text_number(text, item->min, item->max, &value);
        return in_range(item, r, value, member);
    case GT_CONFIG_DURATION:
        r = gt_text_duration(text, &value);
        return in_range(item, r, value, member);
    case GT_CONFIG_SIZE: r = gt_text_size(text, &value); return in_range(item, r, value, member);
    case GT_CONFIG_BOOL: return gt_text_bool(text, member);
    case GT_CONFIG_MAP: return map_set(member, text);
    case GT_CONFIG_NAME: is_valid = gt_text_is_name(gt_span_text(text)); break;
    case GT_CONFIG_HOST: is_valid = gt_text_is_host(text); break;
    case GT_CONFIG_PROXY: is_valid = is_proxy(text); break;
    case GT_CONFIG_CHOICE: is_valid = is_choice(item->choices, text); break;
    case GT_CONFIG_STRING:
    case GT_CONFIG_PATH:
    case GT_CONFIG_PATHS:
    case GT_CONFIG_SECRET: break;
    }
    return is_valid ? string_set(item, settings, text) : GT_TEXT_E_SYNTAX;
}

int gt_configvalue_set(const struct gt_config_item *item, void *settings, const char *text,
                       const char *origin, char *ret_error)
{
    char wanted[192], shown[64];
    const char *wrong = "is invalid";

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
    if (item->type == GT_CONFIG_PROXY) /* it may have a password in any place */
        return gt_configvalue_bad(ret_error, "%s: %s: the value %s, expected %s", origin,
                                  item->path, wrong,
                                  gt_configvalue_wanted(item, wanted, sizeof(wanted)));
    gt_text_shorten(text, shown, sizeof(shown));
    return gt_configvalue_bad(ret_error, "%s: %s: \"%s\" %s, expected %s", origin, item->path,
                              shown, wrong, gt_configvalue_wanted(item, wanted, sizeof(wanted)));
}
