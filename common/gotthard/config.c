/* SPDX-License-Identifier: ISC */
/*
 * A loaded configuration: every layer gives texts to the items of the table, the last one given
 * wins, and all are kept with where they came from, so that `--check-config` can show what hides
 * what. Everything given is judged, also what is hidden. It must never leave a secret in the
 * environment, and never hand out a configuration that is only half right.
 */
#include "gotthard/config.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

#include "gotthard/configfile.h"
#include "gotthard/configvalue.h"
#include "gotthard/crypto.h"

#define SECRET_MAX 4096
#define DROP_INS   100 /* files in one .conf.d */

/* What one layer says of one item. */
struct given {
    char *text, *origin;
    unsigned layer;
};

struct gives {
    struct given *all; /* the last one wins */
    size_t n;
};

struct gt_config {
    const struct gt_config_program *program;
    void *settings;
    struct gives *gives; /* one an item */
    unsigned layer;      /* the one that gives now */
};

/* A secret taken out of the environment, for the next load. */
struct taken {
    struct taken *next;
    char *variable, *text;
};
static struct taken *taken_first;

static int config_give(struct gt_config *config, const struct gt_config_item *item,
                       const char *text, const char *origin, char *ret_error)
{
    struct gives *gives = &config->gives[item - config->program->items];
    if (!*text && gt_configvalue_is_string(item->type))
        return 0;
    if (gives->n && gives->all[gives->n - 1].layer == config->layer)
        return gt_configvalue_bad(ret_error, "%s: %s is given twice, also by %s; keep one", origin,
                                  item->path, gives->all[gives->n - 1].origin);

    struct given *all = reallocarray(gives->all, gives->n + 1, sizeof(*all));
    if (!all)
        return -ENOMEM;
    gives->all = all;
    struct given given = {strdup(text), strdup(origin), config->layer};
    if (!given.text || !given.origin) {
        gt_configvalue_forget(given.text);
        free(given.origin);
        return -ENOMEM;
    }
    gives->all[gives->n++] = given;
    return 0;
}

/* A secret that is the whole of a file, but for the end of its line. */
static int config_give_file(struct gt_config *config, const struct gt_config_item *item,
                            const char *path, const char *origin, char *ret_error)
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
    while (n && (text[n - 1] == '\n' || text[n - 1] == '\r'))
        text[--n] = 0;
    if (n == 0)
        r = gt_configvalue_bad(ret_error, "%s: %s: %.256s: the file is empty; it takes a secret",
                               origin, item->path, path);
    else
        r = config_give(config, item, text, origin, ret_error);
    gt_configvalue_forget(text);
    return r;
}

static int taken_find(const char *variable, struct taken **ret)
{
    struct taken *taken = taken_first;
    while (taken && strcmp(taken->variable, variable) != 0)
        taken = taken->next;
    if (!taken) {
        taken = calloc(1, sizeof(*taken));
        char *name = strdup(variable);
        if (!taken || !name) {
            free(taken);
            free(name);
            return -ENOMEM;
        }
        taken->variable = name;
        taken->next = taken_first;
        taken_first = taken;
    }
    *ret = taken;
    return 0;
}

/* Moves the variable out of the environment; *ret_text is NULL when there was never one. */
static int take_variable(const char *variable, const char **ret_text)
{
    struct taken *taken = NULL;
    char *value = getenv(variable);
    int r = taken_find(variable, &taken);
    if (r < 0)
        return r;
    if (value) {
        char *copy = strdup(value);
        gt_wipe(value, strlen(value));
        unsetenv(variable);
        if (!copy)
            return -ENOMEM;
        gt_configvalue_forget(taken->text);
        taken->text = copy;
    }
    *ret_text = taken->text;
    return 0;
}

static int add_secret_variable(struct gt_config *config, const struct gt_config_item *item,
                               char *ret_error)
{
    char variable[128];
    const char *text = NULL;
    int r = take_variable(item->env, &text);
    if (r == 0 && text)
        r = config_give(config, item, text, item->env, ret_error);
    snprintf(variable, sizeof(variable), "%s_FILE", item->env);
    const char *path = getenv(variable);
    return r == 0 && path ? config_give_file(config, item, path, variable, ret_error) : r;
}

static int add_variables(struct gt_config *config, char *ret_error)
{
    int r = 0;
    config->layer++;
    for (size_t i = 0; i < config->program->n_items && r == 0; i++) {
        const struct gt_config_item *item = &config->program->items[i];
        const char *text = item->env ? getenv(item->env) : NULL;
        if (item->env && item->type == GT_CONFIG_SECRET)
            r = add_secret_variable(config, item, ret_error);
        else if (text)
            r = config_give(config, item, text, item->env, ret_error);
    }
    return r;
}

/* Is there anything of this name, be it a link to nowhere? */
static bool is_there(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0 || (errno != ENOENT && errno != ENOTDIR);
}

static int add_credentials(struct gt_config *config, char *ret_error)
{
    const char *folder = getenv("CREDENTIALS_DIRECTORY");
    int r = 0;
    config->layer++;
    for (size_t i = 0; folder && *folder && i < config->program->n_items && r == 0; i++) {
        const struct gt_config_item *item = &config->program->items[i];
        char path[PATH_MAX];
        if (item->type != GT_CONFIG_SECRET || !item->env)
            continue;
        int n = snprintf(path, sizeof(path), "%s/%s", folder, item->env);
        if (n < 0 || (size_t)n >= sizeof(path))
            continue;
        for (char *c = path + strlen(folder); *c; c++)
            *c = (char)(*c >= 'A' && *c <= 'Z' ? *c - 'A' + 'a' : *c);
        if (is_there(path))
            r = config_give_file(config, item, path, path, ret_error);
    }
    return r;
}

static int on_setting(void *userdata, const struct gt_config_item *item, bool is_file,
                      const char *text, const char *origin, char *ret_error)
{
    return is_file ? config_give_file(userdata, item, text, origin, ret_error)
                   : config_give(userdata, item, text, origin, ret_error);
}

static int add_file(struct gt_config *config, const char *path, char *ret_error)
{
    char *text = NULL;
    size_t n = 0;
    mode_t mode = 0;
    const char *why = NULL;

    int r = gt_configfile_read(path, GT_CONFIGFILE_MAX, &text, &n, &mode, &why);
    if (r == 0 && (mode & S_IWOTH)) {
        gt_configvalue_forget(text);
        why = "others may write it; take that away with chmod o-w";
        r = GT_CONFIG_E_BAD;
    }
    if (r != 0)
        return r < 0 ? r : gt_configvalue_bad(ret_error, "%.400s: %s", path, why);
    struct gt_configfile file = {config->program, path, mode & S_IROTH, on_setting, config};
    config->layer++;
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

static int add_folder(struct gt_config *config, const char *folder, char *ret_error)
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
            r = add_file(config, path, ret_error);
        free(entries[i]);
    }
    free(entries);
    return r;
}

static int add_home(struct gt_config *config, char *ret_error)
{
    const char *folder = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    char path[PATH_MAX];
    if (folder && *folder == '/')
        snprintf(path, sizeof(path), "%s/gotthard/%s.conf", folder, config->program->name);
    else if (home && *home == '/')
        snprintf(path, sizeof(path), "%s/.config/gotthard/%s.conf", home, config->program->name);
    else
        return 0;
    return is_there(path) ? add_file(config, path, ret_error) : 0;
}

static int add_files(struct gt_config *config, char *ret_error)
{
    const char *folder = getenv("GOTTHARD_CONFIG_DIR");
    char path[PATH_MAX];
    int r = 0;
    if (!folder || !*folder)
        folder = "/etc/gotthard";
    snprintf(path, sizeof(path), "%.3800s/%s.conf", folder, config->program->name);
    if (is_there(path))
        r = add_file(config, path, ret_error);
    snprintf(path, sizeof(path), "%.3800s/%s.conf.d", folder, config->program->name);
    if (r == 0 && is_there(path))
        r = add_folder(config, path, ret_error);
    return r == 0 && config->program->has_home_file ? add_home(config, ret_error) : r;
}

static int add_flag(struct gt_config *config, const char *flag, const char *text, char *ret_error)
{
    char origin[128];
    snprintf(origin, sizeof(origin), "--%.120s", flag);
    for (size_t i = 0; i < config->program->n_items; i++) {
        const struct gt_config_item *item = &config->program->items[i];
        if (!item->flag || strcmp(item->flag, flag) != 0)
            continue;
        if (!*text && gt_configvalue_is_string(item->type))
            return gt_configvalue_bad(ret_error, "%s: %s: empty; leave the option out instead",
                                      origin, item->path);
        return config_give(config, item, text, origin, ret_error);
    }
    return gt_configvalue_bad(ret_error, "%s: no such option", origin);
}

static int add_flags(struct gt_config *config, const struct gt_config_args *args, char *ret_error)
{
    int r = 0;
    config->layer++;
    for (size_t i = 0; i < args->n_sets && r == 0; i++)
        r = add_flag(config, args->sets[2 * i], args->sets[2 * i + 1], ret_error);
    return r;
}

/* Judges all that was given, in order, so that the last one stays. */
static int config_settle(struct gt_config *config, char *ret_error)
{
    int r = 0;
    for (size_t i = 0; i < config->program->n_items; i++) {
        const struct gt_config_item *item = &config->program->items[i];
        const struct gives *gives = &config->gives[i];
        bool is_nothing =
            !item->fallback || (!*item->fallback && gt_configvalue_is_string(item->type));
        if (!is_nothing)
            r = gt_configvalue_set(item, config->settings, item->fallback, "default", ret_error);
        for (size_t j = 0; j < gives->n && r == 0; j++)
            r = gt_configvalue_set(item, config->settings, gives->all[j].text, gives->all[j].origin,
                                   ret_error);
        if (r != 0)
            return r;
    }
    return 0;
}

static int config_check(struct gt_config *config, char *ret_error)
{
    char why[256] = "";
    if (!config->program->check)
        return 0;
    const char *path = config->program->check(config->settings, why, sizeof(why));
    return path ? gt_configvalue_bad(ret_error, "%s: %s: %s", gt_config_origin(config, path), path,
                                     why)
                : 0;
}

static struct gt_config *config_new(const struct gt_config_program *program)
{
    struct gt_config *config = calloc(1, sizeof(*config));
    if (!config)
        return NULL;
    config->program = program;
    config->settings = calloc(1, program->settings_size);
    config->gives = calloc(program->n_items, sizeof(*config->gives));
    return config->settings && config->gives ? config : gt_config_free(config);
}

int gt_config_load(const struct gt_config_program *program, const struct gt_config_args *args,
                   struct gt_config **ret, char ret_error[static GT_CONFIG_ERROR_MAX])
{
    struct gt_config *config = config_new(program);
    if (!config)
        return -ENOMEM;
    int r = add_variables(config, ret_error);
    if (r == 0)
        r = add_credentials(config, ret_error);
    if (r == 0)
        r = args && args->file ? add_file(config, args->file, ret_error)
                               : add_files(config, ret_error);
    if (r == 0 && args)
        r = add_flags(config, args, ret_error);
    if (r == 0)
        r = config_settle(config, ret_error);
    if (r == 0)
        r = config_check(config, ret_error);
    if (r != 0) {
        gt_config_free(config);
        return r;
    }
    *ret = config;
    return 0;
}

struct gt_config *gt_config_free(struct gt_config *config)
{
    if (!config)
        return NULL;
    for (size_t i = 0; i < config->program->n_items; i++) {
        if (config->settings)
            gt_configvalue_unset(&config->program->items[i], config->settings);
        for (size_t j = 0; config->gives && j < config->gives[i].n; j++) {
            gt_configvalue_forget(config->gives[i].all[j].text);
            free(config->gives[i].all[j].origin);
        }
        if (config->gives)
            free(config->gives[i].all);
    }
    free(config->settings);
    free(config->gives);
    free(config);
    return NULL;
}

const void *gt_config_settings(const struct gt_config *config)
{
    return config->settings;
}

/* The one that won, or NULL when the default stands. */
static const struct given *config_winner(const struct gt_config *config, const char *path)
{
    for (size_t i = 0; i < config->program->n_items; i++) {
        const struct gives *gives = &config->gives[i];
        if (strcmp(config->program->items[i].path, path) == 0)
            return gives->n ? &gives->all[gives->n - 1] : NULL;
    }
    return NULL;
}

bool gt_config_is_set(const struct gt_config *config, const char *path)
{
    return config_winner(config, path) != NULL;
}

const char *gt_config_origin(const struct gt_config *config, const char *path)
{
    const struct given *winner = config_winner(config, path);
    return winner ? winner->origin : "default";
}

static const char *shown(const struct gt_config_item *item, const char *text, char *ret, size_t cap)
{
    if (item->type == GT_CONFIG_SECRET)
        return text ? "set" : "unset";
    return text ? gt_text_escape(gt_span_text(text), ret, cap) : "";
}

void gt_config_show(const struct gt_config *config, int fd)
{
    char value[512];
    for (size_t i = 0; i < config->program->n_items; i++) {
        const struct gt_config_item *item = &config->program->items[i];
        const struct gives *gives = &config->gives[i];
        size_t n = gives->n;
        dprintf(fd, "%s = %s   # %s\n", item->path,
                shown(item, n ? gives->all[n - 1].text : item->fallback, value, sizeof(value)),
                n ? gives->all[n - 1].origin : "default");
        for (size_t j = n; j-- > 1;)
            dprintf(fd, "#   hides %s   # %s\n",
                    shown(item, gives->all[j - 1].text, value, sizeof(value)),
                    gives->all[j - 1].origin);
    }
}
