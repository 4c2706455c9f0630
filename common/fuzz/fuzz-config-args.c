/* SPDX-License-Identifier: ISC */
/*
 * A command line, one argument per line of the input. Each resulting setting must be a flag of the
 * table with a text, and each word and option must be an argument.
 */
#include "gotthard/base/bytes.h"
#include "gotthard/config/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define ARGS_MAX 32

static const struct gt_config_item items[] = {
    {.path = "server.host", .flag = "server-host", .type = GT_CONFIG_HOST},
    {.path = "server.port", .flag = "server-port", .type = GT_CONFIG_NUMBER},
    {.path = "server.single_port", .flag = "single-port", .type = GT_CONFIG_BOOL},
    {.path = "crypt.key", .env = "KEY", .type = GT_CONFIG_SECRET},
};
static const struct gt_config_program program = {
    .name = "fuzz",
    .items = items,
    .n_items = GT_ARRAY_SIZE(items),
};

static void check(bool condition)
{
    if (!condition)
        abort();
}

static int on_other(void *userdata, const char *option, const char *value, bool *ret_takes_value)
{
    check(option[0] == '-' && option[1] && (option[1] != '-' || !strchr(option, '=')));
    *ret_takes_value = strcmp(option, "--bind") == 0 || strcmp(option, "-b") == 0;
    check(*ret_takes_value || !value);
    return *ret_takes_value || strcmp(option, "--json") == 0 || strcmp(option, "-q") == 0 ? 0 : 1;
}

static int on_word(void *userdata, const char *word)
{
    unsigned *n_words = userdata;

    if (strcmp(word, "ssh") == 0)
        return GT_CONFIG_WORDS_ONLY;
    return ++*n_words > 4;
}

static void check_sets(const struct gt_config_args *args)
{
    for (size_t i = 0; i < args->n_sets; i++) {
        const char *flag = args->sets[2 * i];
        bool is_known = false;

        for (size_t j = 0; j < program.n_items; j++)
            is_known = is_known || flag == items[j].flag;
        check(is_known && args->sets[2 * i + 1]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    char text[1024], error[GT_CONFIG_ERROR_MAX], *argv[ARGS_MAX + 2] = {(char[]){"fuzz"}};
    unsigned n_words = 0;
    int argc = 1;

    n = GT_MIN(n, sizeof(text) - 1);
    if (n)
        memcpy(text, data, n);
    text[n] = 0;
    char *remaining = text;
    for (char *line; argc <= ARGS_MAX && (line = strsep(&remaining, "\n"));)
        argv[argc++] = line;

    struct gt_config_parse parse = {
        .program = &program, .other = on_other, .word = on_word, .userdata = &n_words};
    struct gt_config_args args = {0};
    int r = gt_config_parse_args(&parse, argc, argv, &args, error);
    check(r == 0 || (r == GT_CONFIG_E_BAD && error[0] && !args.sets));
    if (r == 0)
        check_sets(&args);
    free((void *)(uintptr_t)args.sets);
    return 0;
}
