/* SPDX-License-Identifier: ISC */
/*
 * The layers, one after another. It must never leave a secret in the environment, whatever else
 * goes wrong, and never pass over a file that is there but cannot be read.
 */
#include "gotthard/configlayers.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

#include "gotthard/configfile.h"
#include "gotthard/configvalue.h"
#include "gotthard/crypto.h"

#define SECRET_MAX 4096
#define DROP_INS   100 /* files in one .conf.d */

struct layers {
    struct gt_config *config;
    const struct gt_config_program *program;
};

/* A secret taken out of the environment, for the next load. */
struct taken {
    struct taken *next;
    char *variable, *text;
};
static struct taken *taken_first;

/*
 * Where a secret begins in a file: at the start of a file that holds nothing else, or behind its
 * own VARIABLE= in a file of such lines, as `keygen` prints them. It is ended in place.
 */
static char *find_secret(char *text, const char *variable)
{
    char *secret = text;
    size_t n = variable ? strlen(variable) : 0;
    for (char *line = text; n > 0 && line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, variable, n) != 0 || line[n] != '=')
            continue;
        secret = line + n + 1;
        secret[strcspn(secret, "\n")] = 0;
        break;
    }
    n = strlen(secret);
    while (n && (secret[n - 1] == '\n' || secret[n - 1] == '\r'))
        secret[--n] = 0;
    return secret;
}

static int give_file(struct layers *layers, const struct gt_config_item *item, const char *path,
                     const char *origin, char *ret_error)
{
    char *text = NULL;
    size_t n = 0;
    const char *why = NULL;

    if (!*path)
        return 0;
    int r = gt_config_read_file(path, SECRET_MAX, true, &text, &n, &why);
    if (r > 0)
        return gt_configvalue_bad(ret_error, "%s: %s: %.256s: %s", origin, item->path, path, why);
    if (r < 0)
        return r;
    char *secret = find_secret(text, item->env);
    if (!*secret)
        r = gt_configvalue_bad(ret_error, "%s: %s: %.256s: the file is empty; it takes a secret",
                               origin, item->path, path);
    else
        r = gt_config_give(layers->config, item, secret, origin, ret_error);
    gt_wipe(text, n);
    free(text);
    return r;
}

static struct taken *taken_find(const char *variable)
{
    struct taken *taken = taken_first;
    while (taken && strcmp(taken->variable, variable) != 0)
        taken = taken->next;
    return taken;
}

static struct taken *taken_new(const char *variable)
{
    struct taken *taken = calloc(1, sizeof(*taken));
    char *name = strdup(variable);
    if (!taken || !name) {
        free(taken);
        free(name);
        return NULL;
    }
    taken->variable = name;
    taken->next = taken_first;
    taken_first = taken;
    return taken;
}

int gt_config_keep_taken(const char *variable, const char *text)
{
    char *copy = strdup(text);
    struct taken *taken = taken_find(variable);
    if (!taken)
        taken = taken_new(variable);
    if (!copy || !taken) {
        gt_configvalue_forget(copy);
        return -ENOMEM;
    }
    gt_configvalue_forget(taken->text);
    taken->text = copy;
    return 0;
}

void gt_config_each_taken(gt_config_taken_fn on_taken, void *userdata)
{
    for (const struct taken *taken = taken_first; taken; taken = taken->next)
        if (taken->text)
            on_taken(userdata, taken->variable, taken->text);
}

/* Moves the variable out of the environment, wherever that ends. */
static int take_variable(const char *variable)
{
    char *value = getenv(variable);
    if (!value)
        return 0;
    int r = gt_config_keep_taken(variable, value);
    gt_wipe(value, strlen(value));
    unsetenv(variable);
    return r;
}

void gt_configlayers_forget_taken(void)
{
    for (struct taken *taken; (taken = gt_steal(&taken_first));) {
        taken_first = taken->next;
        gt_configvalue_forget(taken->text);
        free(taken->variable);
        free(taken);
    }
}

static int take_variables(const struct gt_config_program *program)
{
    int r = 0;
    for (size_t i = 0; i < program->n_items; i++) {
        const struct gt_config_item *item = &program->items[i];
        int taken = item->env && item->type == GT_CONFIG_SECRET ? take_variable(item->env) : 0;
        r = r ? r : taken;
    }
    return r;
}

static int add_secret_variable(struct layers *layers, const struct gt_config_item *item,
                               char *ret_error)
{
    char variable[128];
    const struct taken *taken = taken_find(item->env);
    int r = taken && taken->text
                ? gt_config_give(layers->config, item, taken->text, item->env, ret_error)
                : 0;
    snprintf(variable, sizeof(variable), "%s_FILE", item->env);
    const char *path = getenv(variable);
    return r == 0 && path ? give_file(layers, item, path, variable, ret_error) : r;
}

static int add_variables(struct layers *layers, char *ret_error)
{
    int r = take_variables(layers->program);
    gt_config_begin_layer(layers->config);
    for (size_t i = 0; i < layers->program->n_items && r == 0; i++) {
        const struct gt_config_item *item = &layers->program->items[i];
        const char *text = item->env ? getenv(item->env) : NULL;
        if (item->env && item->type == GT_CONFIG_SECRET)
            r = add_secret_variable(layers, item, ret_error);
        else if (text)
            r = gt_config_give(layers->config, item, text, item->env, ret_error);
    }
    return r;
}

/* Is there anything of this name, be it a link to nowhere? */
static bool is_there(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0 || (errno != ENOENT && errno != ENOTDIR);
}

static int add_credentials(struct layers *layers, char *ret_error)
{
    const char *folder = getenv("CREDENTIALS_DIRECTORY");
    int r = 0;
    gt_config_begin_layer(layers->config);
    for (size_t i = 0; folder && *folder && i < layers->program->n_items && r == 0; i++) {
        const struct gt_config_item *item = &layers->program->items[i];
        char path[PATH_MAX];
        if (item->type != GT_CONFIG_SECRET || !item->env)
            continue;
        int n = snprintf(path, sizeof(path), "%s/%s", folder, item->env);
        if (n < 0 || (size_t)n >= sizeof(path))
            continue;
        for (char *c = path + strlen(folder); *c; c++)
            *c = (char)(*c >= 'A' && *c <= 'Z' ? *c - 'A' + 'a' : *c);
        if (is_there(path))
            r = give_file(layers, item, path, path, ret_error);
    }
    return r;
}

static int on_setting(void *userdata, const struct gt_config_item *item, bool is_file,
                      const char *text, const char *origin, char *ret_error)
{
    struct layers *layers = userdata;
    return is_file ? give_file(layers, item, text, origin, ret_error)
                   : gt_config_give(layers->config, item, text, origin, ret_error);
}

static int add_file(struct layers *layers, const char *path, char *ret_error)
{
    char *text = NULL;
    size_t n = 0;
    mode_t mode = 0;
    const char *why = NULL;

    int r = gt_configfile_read(path, GT_CONFIGFILE_MAX, false, &text, &n, &mode, &why);
    if (r != 0)
        return r < 0 ? r : gt_configvalue_bad(ret_error, "%.400s: %s", path, why);
    struct gt_configfile file = {layers->program, path, mode & S_IROTH, on_setting, layers};
    gt_config_begin_layer(layers->config);
    r = gt_configfile_parse(&file, gt_span(text, n), ret_error);
    gt_configvalue_forget(text);
    return r;
}

static int is_drop_in(const struct dirent *entry)
{
    size_t n = strlen(entry->d_name);
    return entry->d_name[0] != '.' && n > 5 && strcmp(entry->d_name + n - 5, ".conf") == 0;
}

/* In the order of bytes, whatever the locale. */
static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int add_folder(struct layers *layers, const char *folder, char *ret_error)
{
    struct dirent **entries = NULL;
    int n = scandir(folder, &entries, is_drop_in, by_name);
    int r = 0;
    if (n < 0)
        return gt_configvalue_bad(ret_error, "%.400s: %s", folder, strerrordesc_np(errno));
    if (n > DROP_INS)
        r = gt_configvalue_bad(ret_error, "%.400s: more than %d files", folder, DROP_INS);
    for (int i = 0; i < n; i++) {
        char path[PATH_MAX];
        snprintf(path, sizeof(path), "%.3800s/%s", folder, entries[i]->d_name);
        if (r == 0)
            r = add_file(layers, path, ret_error);
        free(entries[i]);
    }
    free(entries);
    return r;
}

static int add_home(struct layers *layers, char *ret_error)
{
    const char *folder = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    char path[PATH_MAX];
    if (folder && *folder == '/')
        snprintf(path, sizeof(path), "%s/gotthard/%s.conf", folder, layers->program->name);
    else if (home && *home == '/')
        snprintf(path, sizeof(path), "%s/.config/gotthard/%s.conf", home, layers->program->name);
    else
        return 0;
    return is_there(path) ? add_file(layers, path, ret_error) : 0;
}

static int add_files(struct layers *layers, char *ret_error)
{
    const char *folder = getenv("GOTTHARD_CONFIG_DIR");
    char path[PATH_MAX];
    int r = 0;
    if (!folder || !*folder)
        folder = "/etc/gotthard";
    snprintf(path, sizeof(path), "%.3800s/%s.conf", folder, layers->program->name);
    if (is_there(path))
        r = add_file(layers, path, ret_error);
    snprintf(path, sizeof(path), "%.3800s/%s.conf.d", folder, layers->program->name);
    if (r == 0 && is_there(path))
        r = add_folder(layers, path, ret_error);
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
            return gt_configvalue_bad(ret_error, "%s: %s: empty; leave the option out instead",
                                      origin, item->path);
        return gt_config_give(layers->config, item, text, origin, ret_error);
    }
    return gt_configvalue_bad(ret_error, "%s: no such option", origin);
}

static int add_flags(struct layers *layers, const struct gt_config_args *args, char *ret_error)
{
    int r = 0;
    gt_config_begin_layer(layers->config);
    for (size_t i = 0; i < args->n_sets && r == 0; i++)
        r = add_flag(layers, args->sets[2 * i], args->sets[2 * i + 1], ret_error);
    return r;
}

int gt_configlayers_add(struct gt_config *config, const struct gt_config_program *program,
                        const struct gt_config_args *args, char *ret_error)
{
    struct layers layers = {config, program};
    int r = add_variables(&layers, ret_error);
    if (r == 0)
        r = add_credentials(&layers, ret_error);
    if (r == 0)
        r = args && args->file ? add_file(&layers, args->file, ret_error)
                               : add_files(&layers, ret_error);
    if (r == 0 && args)
        r = add_flags(&layers, args, ret_error);
    return r;
}
