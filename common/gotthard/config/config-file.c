/* SPDX-License-Identifier: ISC */
/*
 * A file is read whole, scanned, given to libconfig, and its tree walked against the table: what
 * the table does not know, or knows as another type, is refused with its line. It must never open
 * what could block (a fifo), never follow @include, and never guess.
 */
#include "gotthard/configfile.h"

#include <fcntl.h>
#include <libconfig.h>
#include <stdio.h>
#include <sys/stat.h>

#include "gotthard/configscan.h"
#include "gotthard/configvalue.h"
#include "gotthard/crypto.h"

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

/* Opens without waiting (a fifo, a terminal) and takes regular files only. */
static int open_regular(const char *path, int *ret_fd, struct stat *ret_stat, const char **ret_why)
{
    gt_cleanup(gt_close) int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, ret_stat) < 0) {
        *ret_why = strerrordesc_np(errno);
        return GT_CONFIG_E_BAD;
    }
    if (!S_ISREG(ret_stat->st_mode)) {
        *ret_why = "not a regular file";
        return GT_CONFIG_E_BAD;
    }
    *ret_fd = gt_steal_fd(&fd);
    return 0;
}

/* To whom the file is open that should not be; NULL: to nobody. */
static const char *is_open_to(mode_t mode, bool is_secret)
{
    if (is_secret && (mode & (S_IROTH | S_IWOTH)))
        return "others may read or write it; take that away with chmod o-rwx";
    return mode & S_IWOTH ? "others may write it; take that away with chmod o-w" : NULL;
}

int gt_configfile_read(const char *path, size_t max, bool is_secret, char **ret_text, size_t *ret_n,
                       mode_t *ret_mode, const char **ret_why)
{
    gt_cleanup(gt_close) int fd = -1;
    struct stat st;
    size_t n = 0;

    int r = open_regular(path, &fd, &st, ret_why);
    if (r != 0)
        return r;
    char *text = malloc(max + 2);
    if (!text)
        return -ENOMEM;
    r = read_all(fd, text, max + 1, &n);
    text[n] = 0;
    const char *why = r < 0                ? strerrordesc_np(-r)
                      : n > max            ? "too long"
                      : memchr(text, 0, n) ? "it holds a NUL byte; it is no text"
                                           : is_open_to(st.st_mode, is_secret);
    if (why) {
        gt_wipe(text, n);
        free(text);
        *ret_why = why;
        return GT_CONFIG_E_BAD;
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

    return gt_configfile_read(path, max, is_secret, ret_text, ret_n, &mode, ret_why);
}

/* The table's item of that path; *ret_is_file when the path is a secret's file form. */
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

/* How many letters must change to turn @a into @b (Levenshtein), both at most 63 long. */
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

static int refuse_unknown(const struct gt_configfile *file, const char *origin, const char *path,
                          char *ret_error)
{
    const char *known = nearest(file->program, path);
    if (is_group(file->program, path))
        return gt_configvalue_bad(ret_error, "%s: %s is a group; write %s = { ... };", origin, path,
                                  path);
    if (known)
        return gt_configvalue_bad(ret_error, "%s: %s is unknown; did you mean %s?", origin, path,
                                  known);
    return gt_configvalue_bad(ret_error,
                              "%s: %s is unknown; `gotthard-%s --help` lists what there is", origin,
                              path, file->program->name);
}

static int refuse_type(const struct gt_config_item *item, const char *origin, char *ret_error)
{
    char wanted[192];
    bool is_quoted = item->type != GT_CONFIG_NUMBER && item->type != GT_CONFIG_BOOL &&
                     item->type != GT_CONFIG_MAP;
    return gt_configvalue_bad(ret_error, "%s: %s: wrong type; it takes %s, %s quotes", origin,
                              item->path, gt_configvalue_wanted(item, wanted, sizeof(wanted)),
                              is_quoted ? "in" : "without");
}

/* Puts the members of a group together as "name=value,name=value". */
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
            r = gt_configvalue_bad(ret_error, "%s: %s.%s is not right; it takes one text in quotes",
                                   origin, item->path, config_setting_name(member));
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

/* The value as text, if it has the type that the item takes. */
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
        return refuse_type(item, origin, ret_error);
    }
    if (!text)
        return -ENOMEM;
    *ret_text = text;
    return 0;
}

static int take_setting(const struct gt_configfile *file, const struct gt_config_item *item,
                        bool is_file, config_setting_t *setting, const char *origin,
                        char *ret_error)
{
    char *text = NULL;
    int r = setting_text(item, setting, origin, &text, ret_error);
    if (r != 0)
        return r;
    if (item->type == GT_CONFIG_SECRET && !is_file && *text && file->is_public)
        r = gt_configvalue_bad(
            ret_error, "%s: %s: others may read this file; chmod o-rwx it, or write %s_file",
            origin, item->path, item->path);
    else
        r = file->on_setting(file->userdata, item, is_file, text, origin, ret_error);
    gt_configvalue_forget(text);
    return r;
}

/* As deep as configscan lets groups nest. */
static int walk_group(const struct gt_configfile *file, config_setting_t *group, const char *above,
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
            r = refuse_unknown(file, origin, path, ret_error);
    }
    return r;
}

static int parse_text(const struct gt_configfile *file, const char *text, char *ret_error)
{
    config_t config;
    config_init(&config);
    int r = 0;
    if (config_read_string(&config, text))
        r = walk_group(file, config_root_setting(&config), "", ret_error);
    else
        r = gt_configvalue_bad(ret_error, "%s:%d: %s; a setting is name = value; and is given once",
                               file->name, config_error_line(&config), config_error_text(&config));
    config_destroy(&config);
    return r;
}

int gt_configfile_parse(const struct gt_configfile *file, struct gt_span text, char *ret_error)
{
    unsigned line = 0;
    const char *why = NULL;
    if (gt_configscan(text, &line, &why) != 0)
        return gt_configvalue_bad(ret_error, "%s:%u: %s", file->name, line, why);

    /* libconfig takes a comment on the last line for rubbish unless the line ends. */
    char *copy = malloc(text.n + 2);
    if (!copy)
        return -ENOMEM;
    memcpy(copy, text.data, text.n);
    memcpy(copy + text.n, "\n", 2);
    int r = parse_text(file, copy, ret_error);
    gt_configvalue_forget(copy);
    return r;
}
