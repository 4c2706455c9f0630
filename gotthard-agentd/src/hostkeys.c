/* SPDX-License-Identifier: ISC */
/*
 * Reading public host keys; see the header. Nothing of a private key file can be accepted: a line
 * must begin with the name of an algorithm and a blank.
 */
#include "hostkeys.h"

#include <glob.h>
#include <stdio.h>
#include <sys/stat.h>

#include "gotthard/base/log.h"
#include "gotthard/config/config.h"

#define KEY_FILE_MAX 8192
#define KEY_LINE_MAX 1024

static const char base64_alphabet[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=";

bool hostkeys_parse(const char *text, char *ret, size_t cap)
{
    size_t n_type =
        strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-@._");
    bool is_known = strncmp(text, "ssh-", 4) == 0 || strncmp(text, "ecdsa-sha2-", 11) == 0 ||
                    strncmp(text, "sk-", 3) == 0;

    if (!is_known || text[n_type] != ' ')
        return false;
    size_t n_key = strspn(text + n_type + 1, base64_alphabet);
    const char *end = text + n_type + 1 + n_key;
    if (n_key < 16 || (*end && !strchr(" \t\r\n", *end)) || n_type + 1 + n_key >= cap)
        return false;
    memcpy(ret, text, (size_t)(end - text));
    ret[end - text] = 0;
    return true;
}

static void hostkeys_add_file(void *userdata, const char *path)
{
    struct hostkeys *keys = userdata;
    gt_cleanup(gt_free) char *text = NULL;
    char line[KEY_LINE_MAX];
    const char *why;
    size_t n;

    if (keys->n == GT_HOST_KEYS_MAX)
        return;
    int r = gt_config_read_file(path, KEY_FILE_MAX, false, &text, &n, &why);
    if (r > 0)
        gt_warn("agent.host_keys: %s: %s", path, why);
    if (r != 0 || !hostkeys_parse(text, line, sizeof(line)))
        return;
    keys->lines[keys->n] = strdup(line);
    if (keys->lines[keys->n])
        keys->n++;
}

typedef void (*file_fn)(void *userdata, const char *path);

static void each_file_of(const char *pattern, file_fn fn, void *userdata)
{
    glob_t found;

    if (glob(pattern, 0, NULL, &found) != 0)
        return;
    for (size_t i = 0; i < found.gl_pathc; i++)
        fn(userdata, found.gl_pathv[i]);
    globfree(&found);
}

static void each_file(const char *patterns, file_fn fn, void *userdata)
{
    gt_cleanup(gt_free) char *copy = strdup(patterns ? patterns : "");
    char *remaining = copy, *pattern;

    while (copy && (pattern = strsep(&remaining, " \t")))
        if (*pattern)
            each_file_of(pattern, fn, userdata);
}

/* FNV-1a: nothing is gained by a collision. */
static void mix(uint64_t *state, const void *data, size_t n)
{
    const uint8_t *bytes = data;

    for (size_t i = 0; i < n; i++)
        *state = (*state ^ bytes[i]) * 0x100000001b3;
}

static void mix_file(void *userdata, const char *path)
{
    struct stat st = {0};

    (void)!stat(path, &st);
    const uint64_t numbers[] = {
        (uint64_t)st.st_dev,          (uint64_t)st.st_ino,          (uint64_t)st.st_size,
        (uint64_t)st.st_mtim.tv_sec,  (uint64_t)st.st_mtim.tv_nsec, (uint64_t)st.st_ctim.tv_sec,
        (uint64_t)st.st_ctim.tv_nsec,
    };
    mix(userdata, path, strlen(path) + 1);
    mix(userdata, numbers, sizeof(numbers));
}

static uint64_t state_of(const char *patterns)
{
    uint64_t state = 0xcbf29ce484222325;

    each_file(patterns, mix_file, &state);
    return state;
}

static int compare_lengths(const void *a, const void *b)
{
    size_t n_a = strlen(*(char *const *)a), n_b = strlen(*(char *const *)b);

    return n_a < n_b ? -1 : n_a > n_b;
}

void hostkeys_read(const char *patterns, struct hostkeys *ret)
{
    struct hostkeys keys = {.state = state_of(patterns)}; /* before: a later change is noticed */

    each_file(patterns, hostkeys_add_file, &keys);
    qsort(keys.lines, keys.n, sizeof(keys.lines[0]), compare_lengths);
    for (size_t i = 0; i < keys.n; i++)
        keys.spans[i] = gt_span_text(keys.lines[i]);
    *ret = keys;
}

bool hostkeys_renew(const char *patterns, struct hostkeys *keys)
{
    if (state_of(patterns) == keys->state)
        return false;
    hostkeys_deinit(keys);
    hostkeys_read(patterns, keys);
    return true;
}

void hostkeys_deinit(struct hostkeys *keys)
{
    for (size_t i = 0; i < keys->n; i++)
        free(keys->lines[i]);
    *keys = (struct hostkeys){0};
}
