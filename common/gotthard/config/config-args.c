/* SPDX-License-Identifier: ISC */
/*
 * The command line: the flags of a program's table become settings of the last layer, everything
 * else goes to the program. The list of flags for --help comes from the same table.
 */
#include <stdio.h>

#include "gotthard/config.h"
#include "gotthard/configvalue.h"

struct args {
    const struct gt_config_parse *parse;
    char **argv; /* ends with NULL, as main's does */
    int at;
    const char **sets;
    size_t n_sets;
    const char *file;
    bool is_all_words; /* after "--" */
    char *ret_error;
};

static const struct gt_config_item *find_flag(const struct gt_config_program *program,
                                              const char *name, size_t n)
{
    for (size_t i = 0; i < program->n_items; i++) {
        const char *flag = program->items[i].flag;
        if (flag && strlen(flag) == n && memcmp(flag, name, n) == 0)
            return &program->items[i];
    }
    return NULL;
}

/* The value after "=", or the next argument. */
static int args_value(struct args *args, const char *option, const char **ret_value)
{
    const char *sign = strncmp(option, "--", 2) == 0 ? strchr(option, '=') : NULL;
    const char *value = sign ? sign + 1 : args->argv[args->at];
    if (!value)
        return gt_configvalue_bad(args->ret_error, "%.64s needs a value", option);
    if (!sign)
        args->at++;
    *ret_value = value;
    return 0;
}

static void args_set(struct args *args, const struct gt_config_item *item, const char *value)
{
    args->sets[2 * args->n_sets] = item->flag;
    args->sets[2 * args->n_sets + 1] = value;
    args->n_sets++;
}

static int take_flag(struct args *args, const struct gt_config_item *item, const char *option)
{
    const char *value = "true";
    int r = 0;
    if (item->type != GT_CONFIG_BOOL || strchr(option, '='))
        r = args_value(args, option, &value);
    if (r == 0)
        args_set(args, item, value);
    return r;
}

static int take_file(struct args *args, const char *option)
{
    if (args->file)
        return gt_configvalue_bad(args->ret_error, "--config is given twice; keep one");
    return args_value(args, option, &args->file);
}

/* An option of the program's own. */
static int take_other(struct args *args, const char *option, size_t n)
{
    const struct gt_config_parse *parse = args->parse;
    char name[64];
    bool takes_value = false;
    const char *value = NULL;

    snprintf(name, sizeof(name), "%.*s", (int)GT_MIN(n, sizeof(name) - 1), option);
    if (n >= sizeof(name) || !parse->other ||
        parse->other(parse->userdata, name, NULL, &takes_value) != 0)
        return gt_configvalue_bad(args->ret_error, "%s is no option; see --help", name);
    if (!takes_value)
        return option[n] == 0 ? 0 : gt_configvalue_bad(args->ret_error, "%s takes no value", name);
    int r = args_value(args, option, &value);
    if (r == 0 && parse->other(parse->userdata, name, value, &takes_value) != 0)
        r = gt_configvalue_bad(args->ret_error, "%s does not take this value; see --help", name);
    return r;
}

static int take_option(struct args *args, const char *option)
{
    const struct gt_config_program *program = args->parse->program;
    const char *name = option + 2;

    if (strncmp(option, "--", 2) != 0)
        return take_other(args, option, strlen(option));
    size_t n = strcspn(name, "=");
    const struct gt_config_item *item = find_flag(program, name, n);
    if (item)
        return take_flag(args, item, option);
    if (n == 6 && memcmp(name, "config", 6) == 0)
        return take_file(args, option);
    item = n > 3 && memcmp(name, "no-", 3) == 0 ? find_flag(program, name + 3, n - 3) : NULL;
    if (item && item->type == GT_CONFIG_BOOL && name[n] == 0) {
        args_set(args, item, "false");
        return 0;
    }
    return take_other(args, option, n + 2);
}

static int take_word(struct args *args, const char *word)
{
    const struct gt_config_parse *parse = args->parse;
    int r = parse->word ? parse->word(parse->userdata, word) : 1;
    char shown[64];
    if (r == GT_CONFIG_WORDS_ONLY)
        args->is_all_words = true;
    else if (r != 0)
        return gt_configvalue_bad(args->ret_error, "one argument too many: %s",
                                  gt_text_escape(gt_span_text(word), shown, sizeof(shown)));
    return 0;
}

static int take_argument(struct args *args)
{
    const char *argument = args->argv[args->at++];
    if (args->is_all_words || argument[0] != '-' || argument[1] == 0)
        return take_word(args, argument);
    if (strcmp(argument, "--") == 0) {
        args->is_all_words = true;
        return 0;
    }
    return take_option(args, argument);
}

int gt_config_parse_args(const struct gt_config_parse *parse, int argc, char **argv,
                         struct gt_config_args *ret_args,
                         char ret_error[static GT_CONFIG_ERROR_MAX])
{
    struct args args = {.parse = parse, .argv = argv, .at = 1, .ret_error = ret_error};
    int r = 0;
    args.sets = calloc((size_t)argc + 1, 2 * sizeof(*args.sets));
    if (!args.sets)
        return -ENOMEM;
    while (args.at < argc && r == 0)
        r = take_argument(&args);
    if (r != 0) {
        free(args.sets);
        return r;
    }
    *ret_args = (struct gt_config_args){args.file, args.sets, args.n_sets};
    return 0;
}

static const char *value_word(enum gt_config_type type)
{
    switch (type) {
    case GT_CONFIG_STRING: return "TEXT";
    case GT_CONFIG_NAME: return "NAME";
    case GT_CONFIG_HOST: return "HOST";
    case GT_CONFIG_PATH: return "PATH";
    case GT_CONFIG_SECRET: return "SECRET";
    case GT_CONFIG_NUMBER: return "N";
    case GT_CONFIG_BOOL: return "";
    case GT_CONFIG_DURATION: return "TIME";
    case GT_CONFIG_SIZE: return "SIZE";
    case GT_CONFIG_CHOICE: return "WORD";
    case GT_CONFIG_MAP: return "GROUP";
    }
    return "";
}

static void help_item(const struct gt_config_item *item, const char *name, int fd)
{
    char head[128], wanted[192];
    const char *word = value_word(item->type);
    snprintf(head, sizeof(head), "%s%s%s", name, *word ? " " : "", word);
    dprintf(fd, "  %-30s %s\n", head, item->help ? item->help : "");
    dprintf(fd, "  %-30s %s%s%s", "", item->path, item->env ? ", " : "",
            item->env ? item->env : "");
    if (item->fallback && *item->fallback)
        dprintf(fd, " (default %s)", item->fallback);
    else if (item->type == GT_CONFIG_CHOICE || item->type == GT_CONFIG_NUMBER)
        dprintf(fd, " (%s)", gt_configvalue_wanted(item, wanted, sizeof(wanted)));
    dprintf(fd, "\n");
}

void gt_config_help(const struct gt_config_program *program, int fd)
{
    char flag[128];
    for (size_t i = 0; i < program->n_items; i++) {
        const struct gt_config_item *item = &program->items[i];
        snprintf(flag, sizeof(flag), "--%s", item->flag ? item->flag : "");
        if (item->flag)
            help_item(item, flag, fd);
    }
    dprintf(fd, "\nOnly in the configuration file or the environment:\n");
    for (size_t i = 0; i < program->n_items; i++)
        if (!program->items[i].flag)
            help_item(&program->items[i], program->items[i].path, fd);
}
