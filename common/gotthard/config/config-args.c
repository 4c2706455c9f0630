/* SPDX-License-Identifier: ISC */
/*
 * The command line. The flags of a program's table become settings of the last layer. All other
 * arguments go to the program, whose messages must have the form of these (getopt_long(3)).
 */
#include <stdio.h>

#include "gotthard/config/config-value.h"
#include "gotthard/config/config.h"

struct args {
    const struct gt_config_parse *parse;
    char **argv; /* terminated by NULL, as main's */
    int at;
    const char **sets;
    size_t n_sets;
    const char *file;
    bool is_all_words; /* no more options, as after "--" */
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
        return gt_configvalue_bad(args->ret_error, "option '%.64s' requires an argument", option);
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
        return gt_configvalue_bad(args->ret_error, "option '--config' given twice");
    return args_value(args, option, &args->file);
}

/* Passes an option that is not in the table to the program. */
static int take_other(struct args *args, const char *option, size_t n)
{
    const struct gt_config_parse *parse = args->parse;
    char name[64];
    bool is_whole = option[n] == 0, takes_value = false;
    const char *value = NULL;

    snprintf(name, sizeof(name), "%.*s", (int)GT_MIN(n, sizeof(name) - 1), option);
    if ((n >= sizeof(name) && !is_whole) || !parse->other ||
        parse->other(parse->userdata, is_whole ? option : name, NULL, &takes_value) != 0)
        return gt_configvalue_bad(args->ret_error, "unrecognized option '%s'", name);
    if (!takes_value && !is_whole && parse->optional && strcmp(name, parse->optional) == 0)
        return parse->other(parse->userdata, name, option + n + 1, &takes_value);
    if (!takes_value)
        return is_whole ? 0
                        : gt_configvalue_bad(args->ret_error,
                                             "option '%s' doesn't allow an argument", name);
    int r = args_value(args, option, &value);
    if (r == 0 && parse->other(parse->userdata, is_whole ? option : name, value, &takes_value) != 0)
        r = gt_configvalue_bad(args->ret_error, "invalid argument for option '%s'", name);
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
        return gt_configvalue_bad(args->ret_error, "unexpected argument '%s'",
                                  gt_text_shorten(word, shown, sizeof(shown)));
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

const char *gt_config_foreign_flag(const struct gt_config_program *program,
                                   const struct gt_config_args *args, uint32_t commands)
{
    for (size_t i = 0; i < args->n_sets; i++) {
        const char *flag = args->sets[2 * i];
        const struct gt_config_item *item = find_flag(program, flag, strlen(flag));

        if (item && item->commands && !(item->commands & commands))
            return flag;
    }
    return NULL;
}
