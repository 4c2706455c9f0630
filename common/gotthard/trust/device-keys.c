/* SPDX-License-Identifier: ISC */
/*
 * Parser of files of device keys. Devices have no order in the file. Sorting makes lookups fast and
 * finds names that occur twice, which are rejected.
 */
#include "gotthard/trust/device-keys.h"

#include "gotthard/trust/lines.h"

struct gt_device_key {
    char name[GT_NAME_MAX + 1];
    uint8_t of_device[GT_KEY_SIZE];
    size_t line;
};

static bool decode_key(struct gt_span word, uint8_t ret[static GT_KEY_SIZE])
{
    uint8_t bytes[GT_KEY_SIZE + 3];
    size_t n = 0;
    bool is_good = gt_text_unbase64(word, bytes, sizeof(bytes), &n) == 0 && n == GT_KEY_SIZE;

    if (is_good)
        memcpy(ret, bytes, GT_KEY_SIZE);
    gt_wipe(bytes, sizeof(bytes));
    return is_good;
}

/* Returns NULL or the reason. */
static const char *parse_line(struct gt_span name, struct gt_span line, struct gt_device_key *ret)
{
    static const uint8_t zeros[GT_KEY_SIZE];
    struct gt_span key = gt_line_word(&line), rest = gt_line_word(&line);

    if (key.n == 0 && name.n > 3 && memcmp(name.data, "gk1", 3) == 0)
        return "a gk1 string, expected the name of a device and its key";
    if (!gt_text_is_device_name(name))
        return "invalid name, expected the name of a device and its key";
    if (!decode_key(key, ret->of_device))
        return "the second word must be a key of 43 or 44 characters of base64";
    if (gt_is_equal(ret->of_device, zeros, sizeof(zeros)))
        return "the key is all zeros";
    if (rest.n > 0 && *rest.data != '#')
        return "unexpected word after the key";
    memcpy(ret->name, name.data, name.n);
    ret->name[name.n] = 0;
    return NULL;
}

/* "GOTTHARD_CRYPT_KEY=gk1o...": the file is also the file of crypt.key. */
static bool is_own_key(struct gt_span name)
{
    static const char start[] = "GOTTHARD_CRYPT_KEY=gk1o.";
    size_t n = strlen(start);

    return name.n > n && memcmp(name.data, start, n) == 0;
}

static int compare(const void *a, const void *b)
{
    const struct gt_device_key *x = a, *y = b;
    int order = strcmp(x->name, y->name);

    return order ? order : (x->line > y->line) - (x->line < y->line);
}

static const char *sort(struct gt_device_keys *keys, size_t *ret_line)
{
    if (keys->n > 1)
        qsort(keys->all, keys->n, sizeof(*keys->all), compare);
    for (size_t i = 1; i < keys->n; i++)
        if (strcmp(keys->all[i - 1].name, keys->all[i].name) == 0) {
            *ret_line = keys->all[i].line;
            return "this device already has a key in an earlier line";
        }
    return NULL;
}

static size_t count_lines(struct gt_span text)
{
    size_t n = 1;

    for (size_t i = 0; i < text.n; i++)
        n += text.data[i] == '\n';
    return n;
}

/* Returns NULL or the reason. @keys has room for all lines. */
static const char *parse_lines(struct gt_span text, struct gt_device_keys *keys, size_t *ret_line)
{
    struct gt_lines lines;
    struct gt_span line;
    const char *why = NULL;

    gt_lines_init(&lines, text);
    int r = gt_lines_next(&lines, &line, &why);
    for (; r == 0; r = gt_lines_next(&lines, &line, &why)) {
        struct gt_span name = gt_line_word(&line);

        *ret_line = lines.n;
        if (is_own_key(name))
            continue;
        if (keys->n == GT_DEVICE_KEYS_MAX)
            return "too many devices";
        keys->all[keys->n].line = lines.n;
        const char *invalid = parse_line(name, line, &keys->all[keys->n++]);
        if (invalid)
            return invalid;
    }
    *ret_line = lines.n;
    return r == GT_LINES_E_SYNTAX ? why : sort(keys, ret_line);
}

int gt_device_keys_parse(struct gt_span text, struct gt_device_keys *ret, size_t *ret_line,
                         const char **ret_why)
{
    size_t n = GT_MIN(count_lines(text), (size_t)GT_DEVICE_KEYS_MAX);
    struct gt_device_keys keys = {.all = calloc(n, sizeof(*keys.all))};

    if (!keys.all)
        return -ENOMEM;
    const char *why = parse_lines(text, &keys, ret_line);
    if (why) {
        gt_device_keys_deinit(&keys);
        *ret_why = why;
        return GT_DEVICE_KEYS_E_BAD;
    }
    *ret = keys;
    return 0;
}

void gt_device_keys_deinit(struct gt_device_keys *keys)
{
    if (keys->all)
        gt_wipe(keys->all, keys->n * sizeof(*keys->all));
    free(keys->all);
    *keys = (struct gt_device_keys){0};
}

bool gt_device_keys_find(const struct gt_device_keys *keys, const char *device,
                         uint8_t ret[static GT_KEY_SIZE])
{
    size_t low = 0, high = keys->n;

    while (low < high) {
        size_t i = low + (high - low) / 2;
        int order = strcmp(device, keys->all[i].name);

        if (order == 0) {
            memcpy(ret, keys->all[i].of_device, GT_KEY_SIZE);
            return true;
        }
        if (order < 0)
            high = i;
        else
            low = i + 1;
    }
    return false;
}

const char *gt_device_keys_name(const struct gt_device_keys *keys, size_t i)
{
    return keys->all[i].name;
}

int gt_device_keys_format(const struct gt_key *key, const char *device, char *ret)
{
    uint8_t of_device[GT_KEY_SIZE];
    size_t n = strlen(device);

    int r = gt_key_device(key, device, of_device);
    if (r == 0) {
        memcpy(ret, device, n);
        ret[n++] = ' ';
        r = gt_text_base64(of_device, sizeof(of_device), true, ret + n, GT_DEVICE_KEYS_LINE_MAX - n)
                ? -EOVERFLOW
                : 0;
    }
    gt_wipe(of_device, sizeof(of_device));
    return r;
}
