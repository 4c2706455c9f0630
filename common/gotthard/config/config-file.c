/* SPDX-License-Identifier: ISC */
/*
 * A file is read whole, scanned, parsed by libconfig, and its tree compared with the table. An
 * unknown setting or another type is an error with its line; a removed one is a warning. The code
 * must never open a file by itself (protected-file.c does), never follow @include, and never guess.
 */
#include "gotthard/config/config-file.h"
#include "gotthard/base/log.h"
#include "gotthard/base/proxy.h"

#include <libconfig.h>
#include <stdio.h>

#include "gotthard/config/config-scan.h"
#include "gotthard/config/config-value.h"
#include "gotthard/config/protected-file.h"
#include "gotthard/crypto/crypto.h"

#define PATH_CAP   256 /* of a setting: "server.port" */
#define ORIGIN_CAP 512

static int read_all(int fd, char *text, size_t cap, size_t *ret_n)
{
    size_t n = 0;

    while (n < cap) {
        ssize_t r = read(fd, text + n, cap - n);

        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return -errno;
        if (r == 0)
            break;
        n += (size_t)r;
    }
    *ret_n = n;
    return 0;
}

/* Returns what a file with a NUL byte is, as the reason to reject it. */
static const char *binary_kind(const char *text, size_t n)
{
    if (n >= 2 && (memcmp(text, "\xff\xfe", 2) == 0 || memcmp(text, "\xfe\xff", 2) == 0))
        return "is UTF-16; save it as UTF-8 (contains a NUL byte)";
    if (n >= 2 && text[0] == 0x30 && (uint8_t)text[1] >= 0x80)
        return "is DER, a binary form; convert it to PEM (contains a NUL byte)";
    return "contains a NUL byte, so it is not a text";
}

/* Reads at most @max bytes into @text, which has room for 2 more. Writes a reason to @ret_why. */
static int read_text(int fd, size_t max, char *text, size_t *ret_n, const char **ret_why)
{
    int r = read_all(fd, text, max + 1, ret_n);

    text[*ret_n] = 0;
    *ret_why = r < 0                     ? strerror(-r)
               : *ret_n > max            ? "file too large"
               : memchr(text, 0, *ret_n) ? binary_kind(text, *ret_n)
                                         : NULL;
    return r < 0 ? GT_CONFIG_E_FILE : *ret_why ? GT_CONFIG_E_BAD : 0;
}

int gt_config_file_read(const char *path, size_t max, bool is_secret, char **ret_text,
                        size_t *ret_n, mode_t *ret_mode, const char **ret_why)
{
    static _Thread_local char why[GT_PROTECTEDFILE_WHY];
    gt_cleanup(gt_close) int fd = -1;
    struct stat st;
    size_t n = 0;

    *ret_why = why;
    if (gt_protectedfile_open(path, is_secret, &fd, &st, why) != 0)
        return GT_CONFIG_E_FILE;
    char *text = malloc(max + 2);
    if (!text)
        return -ENOMEM;
    int r = read_text(fd, max, text, &n, ret_why);
    if (r == 0 && gt_protectedfile_has_private_key(gt_span(text, n))) {
        *ret_why = why;
        r = gt_protectedfile_check_secret(st.st_mode, why) ? GT_CONFIG_E_FILE : 0;
    }
    if (r != 0) {
        gt_wipe(text, n);
        free(text);
        return r;
    }
    *ret_text = text;
    *ret_n = n;
    *ret_mode = st.st_mode;
    return 0;
}

int gt_config_read_file(const char *path, size_t max, bool is_secret, char **ret_text,
                        size_t *ret_n, const char **ret_why)
{
    mode_t mode;

    return gt_config_file_read(path, max, is_secret, ret_text, ret_n, &mode, ret_why);
}

/* Returns the item of that path, or NULL. *ret_is_file: the path is the file form of a secret. */
static const struct gt_config_item *file_find(const struct gt_config_program *program,
                                              const char *path, bool *ret_is_file)
{
    for (size_t i = 0; i < program->n_items; i++) {
        const struct gt_config_item *item = &program->items[i];
        size_t n = strlen(item->path);

        if (strncmp(item->path, path, n) != 0)
            continue;
        bool is_file = item->type == GT_CONFIG_SECRET && strcmp(path + n, "_file") == 0;
        if (path[n] && !is_file)
            continue;
        *ret_is_file = is_file;
        return item;
    }
    return NULL;
}

static bool is_group(const struct gt_config_program *program, const char *path)
{
    size_t n = strlen(path);

    for (size_t i = 0; i < program->n_items; i++)
        if (strncmp(program->items[i].path, path, n) == 0 && program->items[i].path[n] == '.')
            return true;
    return false;
}

/* Returns the Levenshtein distance of two texts of at most 63 bytes. */
static unsigned distance(const char *a, const char *b)
{
    unsigned row[64];
    size_t n = strlen(b);

    for (unsigned j = 0; j <= n; j++)
        row[j] = j;
    for (unsigned i = 1; a[i - 1]; i++) {
        unsigned diagonal = row[0];

        row[0] = i;
        for (size_t j = 1; j <= n; j++) {
            unsigned change = diagonal + (a[i - 1] != b[j - 1]);

            diagonal = row[j];
            row[j] = GT_MIN(change, GT_MIN(row[j], row[j - 1]) + 1);
        }
    }
    return row[n];
}

static const char *nearest(const struct gt_config_program *program, const char *path)
{
    const char *best = NULL;
    unsigned least = 4;

    for (size_t i = 0; i < program->n_items && strlen(path) < 64; i++) {
        const char *candidate = program->items[i].path;
        unsigned d = strlen(candidate) < 64 ? distance(path, candidate) : least;

        if (d < least) {
            least = d;
            best = candidate;
        }
    }
    return best;
}

static int reject_unknown(const struct gt_config_file *file, const char *origin, const char *path,
                          char *ret_error)
{
    const char *known = nearest(file->program, path);

    if (is_group(file->program, path))
        return gt_configvalue_bad(ret_error, "%s: %s is a group, expected %s = { ... };", origin,
                                  path, path);
    if (known)
        return gt_configvalue_bad(ret_error, "%s: unknown setting %s; did you mean %s?", origin,
                                  path, known);
    if (file->program->manual)
        return gt_configvalue_bad(ret_error, "%s: unknown setting %s; see %s", origin, path,
                                  file->program->manual);
    return gt_configvalue_bad(ret_error, "%s: unknown setting %s; see 'gotthard-%s --help'", origin,
                              path, file->program->name);
}

static const struct gt_config_removed *find_removed(const struct gt_config_program *program,
                                                    const char *path)
{
    for (size_t i = 0; i < program->n_removed; i++)
        if (strcmp(program->removed[i].path, path) == 0)
            return &program->removed[i];
    return NULL;
}

/* A setting that no longer exists is no reason not to start. Any other one may be a typing error.
 */
static int ignore_or_reject(const struct gt_config_file *file, const char *origin, const char *path,
                            char *ret_error)
{
    const struct gt_config_removed *removed = find_removed(file->program, path);

    if (!removed)
        return reject_unknown(file, origin, path, ret_error);
    gt_warn("%s: %s has no effect any more, %s: remove it", origin, path, removed->why);
    return 0;
}

/* Writes the value for a message: nothing for a secret or a group. */
static const char *shown_value(const struct gt_config_item *item, const config_setting_t *setting,
                               char *ret, size_t cap)
{
    char text[64];

    *ret = 0;
    if (item->type == GT_CONFIG_SECRET)
        return ret;
    switch (config_setting_type(setting)) {
    case CONFIG_TYPE_INT: snprintf(ret, cap, ", not %d", config_setting_get_int(setting)); break;
    case CONFIG_TYPE_BOOL:
        snprintf(ret, cap, ", not %s", config_setting_get_bool(setting) ? "true" : "false");
        break;
    case CONFIG_TYPE_STRING:
        gt_text_shorten(config_setting_get_string(setting), text, sizeof(text));
        snprintf(ret, cap, ", not \"%s\"", text);
        break;
    }
    return ret;
}

static int reject_type(const struct gt_config_item *item, const config_setting_t *setting,
                       const char *origin, char *ret_error)
{
    char wanted[192], value[80];
    bool is_quoted = item->type != GT_CONFIG_NUMBER && item->type != GT_CONFIG_BOOL &&
                     item->type != GT_CONFIG_MAP;

    return gt_configvalue_bad(ret_error, "%s: %s: wrong type, expected %s, %s quotes%s", origin,
                              item->path, gt_configvalue_wanted(item, wanted, sizeof(wanted)),
                              is_quoted ? "in" : "without",
                              shown_value(item, setting, value, sizeof(value)));
}

/* Joins the members of a group as "name=value,name=value". */
static int map_text(const struct gt_config_item *item, config_setting_t *setting,
                    const char *origin, char **ret_text, char *ret_error)
{
    size_t n = 0;
    char *text = NULL;
    FILE *out = open_memstream(&text, &n);

    if (!out)
        return -ENOMEM;
    int r = 0;
    for (int i = 0; i < config_setting_length(setting) && r == 0; i++) {
        config_setting_t *member = config_setting_get_elem(setting, (unsigned)i);
        const char *value = config_setting_get_string(member);

        if (!value || !*value || strchr(value, ','))
            r = gt_configvalue_bad(ret_error,
                                   "%s: %s.%s: expected a text in quotes, without commas", origin,
                                   item->path, config_setting_name(member));
        else
            fprintf(out, "%s%s=%s", i ? "," : "", config_setting_name(member), value);
    }
    if (fclose(out) != 0 && r == 0)
        r = -ENOMEM;
    if (r == 0)
        *ret_text = gt_steal(&text);
    free(text);
    return r;
}

/* Writes the value as text. Returns E_BAD if it has not the item's type. */
static int setting_text(const struct gt_config_item *item, config_setting_t *setting,
                        const char *origin, char **ret_text, char *ret_error)
{
    int type = config_setting_type(setting);
    char *text = NULL;

    if (item->type == GT_CONFIG_MAP && type == CONFIG_TYPE_GROUP)
        return map_text(item, setting, origin, ret_text, ret_error);
    if (item->type == GT_CONFIG_NUMBER && type == CONFIG_TYPE_INT) {
        if (asprintf(&text, "%d", config_setting_get_int(setting)) < 0)
            return -ENOMEM;
    } else if (item->type == GT_CONFIG_BOOL && type == CONFIG_TYPE_BOOL) {
        text = strdup(config_setting_get_bool(setting) ? "true" : "false");
    } else if (item->type != GT_CONFIG_NUMBER && item->type != GT_CONFIG_BOOL &&
               item->type != GT_CONFIG_MAP && type == CONFIG_TYPE_STRING) {
        text = strdup(config_setting_get_string(setting));
    } else {
        return reject_type(item, setting, origin, ret_error);
    }
    if (!text)
        return -ENOMEM;
    *ret_text = text;
    return 0;
}

static int take_setting(const struct gt_config_file *file, const struct gt_config_item *item,
                        bool is_file, config_setting_t *setting, const char *origin,
                        char *ret_error)
{
    char *text = NULL;
    int r = setting_text(item, setting, origin, &text, ret_error);

    if (r != 0)
        return r;
    if (item->type == GT_CONFIG_PROXY && file->is_public && gt_proxy_has_password(text))
        r = gt_configvalue_bad(ret_error,
                               "%s: %s: the file must not be readable by others (chmod o-rwx), or "
                               "use %s_password_file",
                               origin, item->path, item->path);
    else if (item->type == GT_CONFIG_SECRET && !is_file && *text && file->is_public)
        r = gt_configvalue_bad(
            ret_error,
            "%s: %s: the file must not be readable by others (chmod o-rwx), or use %s_file", origin,
            item->path, item->path);
    else
        r = file->on_setting(file->userdata, item, is_file, text, origin, ret_error);
    gt_configvalue_forget(text);
    return r;
}

/* Recursion depth: gt_config_scan() limits the nesting of groups. */
static int walk_group(const struct gt_config_file *file, config_setting_t *group, const char *above,
                      char *ret_error)
{
    int r = 0;

    for (int i = 0; i < config_setting_length(group) && r == 0; i++) {
        config_setting_t *setting = config_setting_get_elem(group, (unsigned)i);
        char path[PATH_CAP], origin[ORIGIN_CAP];
        bool is_file = false;

        snprintf(path, sizeof(path), "%s%s%.60s", above, *above ? "." : "",
                 config_setting_name(setting));
        snprintf(origin, sizeof(origin), "%.400s:%u", file->name,
                 config_setting_source_line(setting));

        const struct gt_config_item *item = file_find(file->program, path, &is_file);
        if (item)
            r = take_setting(file, item, is_file, setting, origin, ret_error);
        else if (is_group(file->program, path) && config_setting_is_group(setting))
            r = walk_group(file, setting, path, ret_error);
        else
            r = ignore_or_reject(file, origin, path, ret_error);
    }
    return r;
}

static int parse_text(const struct gt_config_file *file, const char *text, char *ret_error)
{
    config_t config;

    config_init(&config);
    int r = 0;
    if (config_read_string(&config, text))
        r = walk_group(file, config_root_setting(&config), "", ret_error);
    else
        r = gt_configvalue_bad(ret_error, "%s:%d: %s; expected name = value;", file->name,
                               config_error_line(&config), config_error_text(&config));
    config_destroy(&config);
    return r;
}

int gt_config_file_parse(const struct gt_config_file *file, struct gt_span text, char *ret_error)
{
    unsigned line = 0;
    const char *why = NULL;

    if (gt_config_scan(text, &line, &why) != 0)
        return gt_configvalue_bad(ret_error, "%s:%u: %s", file->name, line, why);

    /* libconfig rejects a comment on a last line without a newline. */
    char *copy = malloc(text.n + 2);
    if (!copy)
        return -ENOMEM;
    memcpy(copy, text.data, text.n);
    memcpy(copy + text.n, "\n", 2);
    int r = parse_text(file, copy, ret_error);
    gt_configvalue_forget(copy);
    return r;
}
