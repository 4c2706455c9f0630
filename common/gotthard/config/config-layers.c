/* SPDX-License-Identifier: ISC */
/*
 * The layers, one after another. An existing file that cannot be read must never be skipped.
 */
#include "gotthard/config/config-layers.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>

#include "gotthard/config/config-file.h"
#include "gotthard/config/config-path.h"
#include "gotthard/config/config-secret.h"
#include "gotthard/config/config-taken.h"
#include "gotthard/config/config-value.h"
#include "gotthard/config/protected-file.h"
#include "gotthard/crypto/crypto.h"

#define SECRET_MAX 4096
#define NO_FOLDER  3   /* beside E_BAD and E_FILE */
#define DROP_INS   100 /* files in one .conf.d folder */

struct layers {
    struct gt_config *config;
    const struct gt_config_program *program;
    const char *folder; /* for relative paths; NULL: the working directory */
};

/* Resolves a path, or each of several. */
static int resolve(const struct layers *layers, const struct gt_config_item *item, const char *text,
                   const char *origin, char **ret, char *ret_error)
{
    const char *why = NULL;
    char shown[64];
    int r = item->type == GT_CONFIG_PATHS
                ? gt_configpath_resolve_all(text, layers->folder, ret, &why)
                : gt_configpath_resolve(text, layers->folder, ret, &why);

    if (r <= 0)
        return r;
    gt_text_shorten(text, shown, sizeof(shown));
    return gt_configvalue_bad(ret_error, "%s: %s: \"%s\": %s", origin, item->path, shown, why);
}

/* Assigns a text that is not the path of a secret's file. */
static int assign(struct layers *layers, const struct gt_config_item *item, const char *text,
                  const char *origin, char *ret_error)
{
    gt_cleanup(gt_free) char *path = NULL;
    int r = 0;

    if (*text && (item->type == GT_CONFIG_PATH || item->type == GT_CONFIG_PATHS))
        r = resolve(layers, item, text, origin, &path, ret_error);
    struct gt_config_given given = {.text = path ? path : text, .origin = origin};
    return r ? r : gt_config_assign(layers->config, item, &given, ret_error);
}

/* @path: absolute. */
static int assign_secret(struct layers *layers, const struct gt_config_item *item, const char *path,
                         const char *origin, char *ret_error)
{
    char variable[GT_CONFIG_VARIABLE_MAX], *text = NULL, *secret = NULL;
    const char *why = NULL;
    size_t n = 0;

    gt_config_variable(item, variable);
    int r = gt_config_read_file(path, SECRET_MAX, true, &text, &n, &why);
    if (r > 0)
        (void)gt_configvalue_bad(ret_error, "%s: %s: %.256s: %s", origin, item->path, path, why);
    if (r != 0)
        return r > 0 ? GT_CONFIG_E_FILE : r;
    why = gt_configsecret_find(text, variable, &secret);
    struct gt_config_given given = {.text = secret, .origin = origin, .file = path};
    if (why) {
        (void)gt_configvalue_bad(ret_error, "%s: %s: %.256s: %s", origin, item->path, path, why);
        r = GT_CONFIG_E_FILE;
    } else {
        r = gt_config_assign(layers->config, item, &given, ret_error);
    }
    gt_wipe(text, n);
    free(text);
    return r;
}

static int assign_file(struct layers *layers, const struct gt_config_item *item, const char *text,
                       const char *origin, char *ret_error)
{
    gt_cleanup(gt_free) char *path = NULL;

    if (!*text)
        return 0;
    int r = resolve(layers, item, text, origin, &path, ret_error);
    return r ? r : assign_secret(layers, item, path, origin, ret_error);
}

static int add_secret_variable(struct layers *layers, const struct gt_config_item *item,
                               const char *variable, char *ret_error)
{
    char file_variable[GT_CONFIG_VARIABLE_MAX + 8];
    const char *taken = gt_configtaken_find(variable);
    int r = taken ? assign(layers, item, taken, variable, ret_error) : 0;

    snprintf(file_variable, sizeof(file_variable), "%s_FILE", variable);
    const char *path = getenv(file_variable);
    return r == 0 && path ? assign_file(layers, item, path, file_variable, ret_error) : r;
}

static int add_variables(struct layers *layers, char *ret_error)
{
    char variable[GT_CONFIG_VARIABLE_MAX];
    int r = gt_configtaken_take(layers->program);

    gt_config_begin_layer(layers->config);
    for (size_t i = 0; i < layers->program->n_items && r == 0; i++) {
        const struct gt_config_item *item = &layers->program->items[i];

        if (!gt_config_variable(item, variable))
            continue;
        const char *text = getenv(variable);
        if (item->type == GT_CONFIG_SECRET)
            r = add_secret_variable(layers, item, variable, ret_error);
        else if (text && *text) /* an empty variable counts as not given */
            r = assign(layers, item, text, variable, ret_error);
    }
    return r;
}

static int add_credentials(struct layers *layers, char *ret_error)
{
    const char *folder = getenv("CREDENTIALS_DIRECTORY");
    int r = 0;

    gt_config_begin_layer(layers->config);
    for (size_t i = 0; folder && *folder && i < layers->program->n_items && r == 0; i++) {
        const struct gt_config_item *item = &layers->program->items[i];
        char path[PATH_MAX], variable[GT_CONFIG_VARIABLE_MAX];

        if (item->type != GT_CONFIG_SECRET)
            continue;
        gt_config_variable(item, variable);
        int n = snprintf(path, sizeof(path), "%s/%s", folder, variable);
        if (n < 0 || (size_t)n >= sizeof(path))
            continue;
        for (char *c = path + strlen(folder); *c; c++)
            *c = (char)(*c >= 'A' && *c <= 'Z' ? *c - 'A' + 'a' : *c);
        if (!gt_protectedfile_is_absent(path))
            r = assign_file(layers, item, path, path, ret_error);
    }
    return r;
}

static int on_setting(void *userdata, const struct gt_config_item *item, bool is_file,
                      const char *text, const char *origin, char *ret_error)
{
    struct layers *layers = userdata;

    return is_file ? assign_file(layers, item, text, origin, ret_error)
                   : assign(layers, item, text, origin, ret_error);
}

static int add_file(struct layers *layers, const char *path, char *ret_error)
{
    char *text = NULL;
    size_t n = 0;
    mode_t mode = 0;
    const char *why = NULL;

    int r = gt_config_file_read(path, GT_CONFIG_FILE_MAX, false, &text, &n, &mode, &why);
    if (r > 0)
        (void)gt_configvalue_bad(ret_error, "%.400s: %s", path, why);
    if (r != 0)
        return r;
    gt_cleanup(gt_free) char *folder = gt_configpath_folder(path);
    struct gt_config_file file = {layers->program, path, mode & S_IROTH, on_setting, layers};
    layers->folder = folder;
    gt_config_begin_layer(layers->config);
    r = gt_config_file_parse(&file, gt_span(text, n), ret_error);
    layers->folder = NULL;
    gt_configvalue_forget(text);
    return r;
}

static int is_drop_in(const struct dirent *entry)
{
    size_t n = strlen(entry->d_name);

    return entry->d_name[0] != '.' && n > 5 && strcmp(entry->d_name + n - 5, ".conf") == 0;
}

/* Compares bytes, independently of the locale. */
static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

/* Checks a folder and opens it for *at calls. A user who may write it could remove a file from it.
 */
static int open_folder(const char *folder, int *ret_fd, char *ret_error)
{
    char why[GT_PROTECTEDFILE_WHY];

    if (gt_protectedfile_open_folder(folder, ret_fd, why) == 0)
        return 0;
    (void)gt_configvalue_bad(ret_error, "%.160s: %s", folder, why);
    return GT_CONFIG_E_FILE;
}

static int add_entries(struct layers *layers, const char *folder, struct dirent **entries, int n,
                       char *ret_error)
{
    int r = 0;

    if (n > DROP_INS)
        r = gt_configvalue_bad(ret_error, "%.400s: too many files, at most %d", folder, DROP_INS);
    for (int i = 0; i < n && r == 0; i++) {
        char path[PATH_MAX];

        snprintf(path, sizeof(path), "%.3800s/%s", folder, entries[i]->d_name);
        r = add_file(layers, path, ret_error);
    }
    return r;
}

static int add_folder(struct layers *layers, const char *folder, char *ret_error)
{
    gt_cleanup(gt_close) int fd = -1;
    struct dirent **entries = NULL;

    int r = open_folder(folder, &fd, ret_error);
    if (r)
        return r;
    int n = scandir(folder, &entries, is_drop_in, by_name);
    if (n < 0) {
        (void)gt_configvalue_bad(ret_error, "%.400s: %s", folder, strerror(errno));
        return GT_CONFIG_E_FILE;
    }
    r = add_entries(layers, folder, entries, n, ret_error);
    for (int i = 0; i < n; i++)
        free(entries[i]);
    free(entries);
    return r;
}

/* Returns the folder of the files, checked, or NULL if there is none. One that a variable names
 * must exist. It is checked in any case: pins are found in it as well. */
static int find_folder(const char **ret, char *ret_error)
{
    const char *given = getenv("GOTTHARD_CONFIG_DIR");
    gt_cleanup(gt_close) int fd = -1;
    bool is_given = given && *given;
    const char *folder = is_given ? given : "/etc/gotthard";

    *ret = NULL;
    if (!is_given && gt_protectedfile_is_absent(folder))
        return 0;
    *ret = folder;
    return open_folder(folder, &fd, ret_error);
}

static int add_files(struct layers *layers, const char *folder, char *ret_error)
{
    const char *name = layers->program->name;
    char path[PATH_MAX];
    int r = 0;

    snprintf(path, sizeof(path), "%.3800s/%s.conf", folder, name);
    if (!gt_protectedfile_is_absent(path))
        r = add_file(layers, path, ret_error);
    snprintf(path, sizeof(path), "%.3800s/%s.conf.d", folder, name);
    if (r == 0 && !gt_protectedfile_is_absent(path))
        r = add_folder(layers, path, ret_error);
    return r;
}

static int add_home(struct layers *layers, char *ret_error)
{
    char folder[PATH_MAX];

    return gt_configpath_home(folder) ? add_files(layers, folder, ret_error) : 0;
}

/* @path: of --config. A shell expands "~/" only where it stands alone. */
static int add_given_file(struct layers *layers, const char *path, char *ret_error)
{
    gt_cleanup(gt_free) char *absolute = NULL;
    const char *why = NULL;

    if (*path != '~')
        return add_file(layers, path, ret_error);
    int r = gt_configpath_resolve(path, NULL, &absolute, &why);
    if (r > 0)
        return gt_configvalue_bad(ret_error, "--config: %.256s: %s", path, why);
    return r ? r : add_file(layers, absolute, ret_error);
}

static int add_all_files(struct layers *layers, const char *file, char *ret_error)
{
    const char *folder = NULL;
    int r = find_folder(&folder, ret_error);

    if (r == 0 && file)
        return add_given_file(layers, file, ret_error);
    if (r == 0 && folder)
        r = add_files(layers, folder, ret_error);
    return r == 0 && layers->program->has_home_file ? add_home(layers, ret_error) : r;
}

static int add_flag(struct layers *layers, const char *flag, const char *text, char *ret_error)
{
    char origin[128];

    snprintf(origin, sizeof(origin), "--%.120s", flag);
    for (size_t i = 0; i < layers->program->n_items; i++) {
        const struct gt_config_item *item = &layers->program->items[i];

        if (!item->flag || strcmp(item->flag, flag) != 0)
            continue;
        if (!*text && gt_configvalue_is_string(item->type))
            return gt_configvalue_bad(ret_error, "%s: %s: empty value; omit the option instead",
                                      origin, item->path);
        return assign(layers, item, text, origin, ret_error);
    }
    return gt_configvalue_bad(ret_error, "unrecognized option '%s'", origin);
}

static int add_flags(struct layers *layers, const struct gt_config_args *args, char *ret_error)
{
    int r = 0;

    gt_config_begin_layer(layers->config);
    for (size_t i = 0; i < args->n_sets && r == 0; i++)
        r = add_flag(layers, args->sets[2 * i], args->sets[2 * i + 1], ret_error);
    return r;
}

/* Returns the first of @names (separated by blanks) with a value. Writes it to @ret_name. */
static const char *find_standard(const char *names, char ret_name[static GT_CONFIG_VARIABLE_MAX])
{
    for (; *names; names += strspn(names, " ")) {
        size_t n = strcspn(names, " ");

        snprintf(ret_name, GT_CONFIG_VARIABLE_MAX, "%.*s", (int)n, names);
        const char *text = getenv(ret_name);
        if (text && *text)
            return text;
        names += n;
    }
    return NULL;
}

/* The variables that other programs share are the lowest layer. A value that Gotthard cannot use
 * is no error: the other programs may need it. */
static int add_standard_variables(struct layers *layers, char *ret_error)
{
    char name[GT_CONFIG_VARIABLE_MAX];
    int r = 0;

    gt_config_begin_layer(layers->config);
    for (size_t i = 0; i < layers->program->n_items && r == 0; i++) {
        const struct gt_config_item *item = &layers->program->items[i];
        const char *text = item->standard ? find_standard(item->standard, name) : NULL;
        const struct gt_config_given given = {.text = text, .origin = name, .is_standard = true};

        if (text && !gt_config_is_set(layers->config, item->path))
            r = gt_config_assign(layers->config, item, &given, ret_error);
    }
    return r;
}

int gt_configlayers_add(struct gt_config *config, const struct gt_config_program *program,
                        const struct gt_config_args *args, char *ret_error)
{
    struct layers layers = {config, program, NULL};
    int r = add_variables(&layers, ret_error);

    if (r == 0)
        r = add_credentials(&layers, ret_error);
    if (r == 0)
        r = add_all_files(&layers, args ? args->file : NULL, ret_error);
    if (r == 0 && args)
        r = add_flags(&layers, args, ret_error);
    return r == 0 ? add_standard_variables(&layers, ret_error) : r;
}

int gt_configlayers_add_saved(struct gt_config *config, const struct gt_config_program *program,
                              const char *name, struct gt_span text, char *ret_error)
{
    struct layers layers = {config, program, NULL};
    const struct gt_config_file file = {program, name, false, on_setting, &layers};

    gt_config_begin_layer(config);
    int r = gt_config_file_parse(&file, text, ret_error);
    return r == 0 ? add_standard_variables(&layers, ret_error) : r;
}
