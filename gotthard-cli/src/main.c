/* SPDX-License-Identifier: ISC */
/*
 * The door of gotthard-cli: one table of commands, from which the usage is printed, and the few
 * options that are no settings. Called as `gotthard` it also knows the original tool's words for
 * the two daemons. Nothing here does a command's work.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "gotthard/log.h"
#include "gotthard/loop.h"
#include "gotthard/process.h"

#define WORDS_MAX 65 /* a command, a device and PORTS_MAX targets */

static const struct command commands[] = {
    {"connect", "DEVICE [[LOCAL:][SERVICE|HOST:]PORT]...",
     "Hold a tunnel to a device; \":22\" or \"0:22\" takes a free local port.", 1, WORDS_MAX, true,
     cmd_connect},
    {"disconnect", "DEVICE", "Close the sessions that are open to a device.", 1, 1, true,
     cmd_disconnect},
    {"status", "[DEVICE]", "Is it online, since when, with which services?", 0, 1, true,
     cmd_status},
    {"devices", "", "All devices that the broker knows, and whether they are online.", 0, 0, true,
     cmd_devices},
    {"keygen", "[device NAME | relay]",
     "Make a fleet key; derive a device's or the relay's from the one configured.", 0, 2, true,
     cmd_keygen},
    {"fingerprint", "", "Print this operator's line for the pin files of devices.", 0, 0, true,
     cmd_fingerprint},
    {"config", "show", "Each setting, with where it came from.", 1, 1, true, cmd_config},
    {"version", "", "Print the version.", 0, 0, false, cmd_version},
};

/* The original tool's words, for `gotthard`. */
static const struct {
    const char *word, *daemon, *help;
} daemons[] = {
    {"server", "gotthard-relayd", "Run the relay (gotthard-relayd)."},
    {"edge-device", "gotthard-agentd", "Run the device's side (gotthard-agentd)."},
};

enum option_id {
    OPTION_CONFIG,
    OPTION_JSON,
    OPTION_PRINT_PORT,
    OPTION_BIND,
    OPTION_QUIET,
    OPTION_NO_COLOR,
    OPTION_HELP,
    OPTION_VERSION,
    N_OPTIONS,
};

static const struct {
    const char *name, *letter, *value, *help;
} options[N_OPTIONS] = {
    [OPTION_CONFIG] = {"--config", NULL, "FILE", "Read this file instead of the usual ones."},
    [OPTION_JSON] = {"--json", NULL, NULL, "For programs: JSON on standard output."},
    [OPTION_PRINT_PORT] = {"--print-port", NULL, NULL,
                           "connect: print the local ports, once the tunnel is up."},
    [OPTION_BIND] = {"--bind", NULL, "ADDRESS", "connect: listen there, not on loopback only."},
    [OPTION_QUIET] = {"--quiet", "-q", NULL, "Say nothing but errors."},
    [OPTION_NO_COLOR] = {"--no-color", NULL, NULL, "No colours (also NO_COLOR)."},
    [OPTION_HELP] = {"--help", "-h", NULL, "Print this and exit."},
    [OPTION_VERSION] = {"--version", "-V", NULL, "Print the version and exit."},
};

/* What the command line said. */
struct invocation {
    const char *program;
    const char *given[N_OPTIONS]; /* NULL: not given */
    char *words[WORDS_MAX + 1];
    size_t n_words;
};

static void print_commands(const char *program, int fd)
{
    dprintf(fd, "Usage: %s [OPTION]... COMMAND\n\nCommands:\n", program);
    for (size_t i = 0; i < GT_ARRAY_SIZE(commands); i++)
        dprintf(fd, "  %s%s%s\n      %s\n", commands[i].name, *commands[i].usage ? " " : "",
                commands[i].usage, commands[i].help);
    for (size_t i = 0; i < GT_ARRAY_SIZE(daemons) && strcmp(program, "gotthard") == 0; i++)
        dprintf(fd, "  %s [OPTION]...\n      %s\n", daemons[i].word, daemons[i].help);
}

static void print_usage(const char *program, int fd)
{
    char head[64];
    print_commands(program, fd);
    dprintf(fd, "\nOptions:\n");
    for (size_t i = 0; i < N_OPTIONS; i++) {
        const char *letter = options[i].letter, *value = options[i].value;
        snprintf(head, sizeof(head), "%s%s%s%s%s", letter ? letter : "", letter ? ", " : "",
                 options[i].name, value ? " " : "", value ? value : "");
        dprintf(fd, "  %-30s %s\n", head, options[i].help);
    }
    dprintf(fd, "\nSettings:\n");
    gt_config_help(settings_program(), fd);
}

static int invocation_on_option(void *userdata, const char *option, const char *value,
                                bool *ret_takes_value)
{
    struct invocation *invocation = userdata;
    for (size_t i = 0; i < N_OPTIONS; i++) {
        bool is_letter = options[i].letter && strcmp(option, options[i].letter) == 0;
        if (!is_letter && strcmp(option, options[i].name) != 0)
            continue;
        if (ret_takes_value)
            *ret_takes_value = options[i].value != NULL;
        if (!options[i].value || value)
            invocation->given[i] = value ? value : "";
        return 0;
    }
    return 1;
}

static int invocation_on_word(void *userdata, const char *word)
{
    struct invocation *invocation = userdata;
    if (invocation->n_words == WORDS_MAX)
        return 1;
    invocation->words[invocation->n_words++] = (char *)word;
    return 0;
}

/* The three standard descriptors exist, so that no socket is ever taken for one of them. A closed
 * standard output becomes one that cannot be written to: what was lost shall be noticed. */
static void open_standard_descriptors(void)
{
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) < 0)
            if (open("/dev/null", fd == STDERR_FILENO ? O_RDWR : O_RDONLY) != fd)
                _exit(EXIT_INTERNAL);
}

static const char *program_name(const char *path)
{
    const char *slash = path ? strrchr(path, '/') : NULL;
    const char *name = slash ? slash + 1 : path;
    return name && strcmp(name, "gotthard") == 0 ? "gotthard" : "gotthard-cli";
}

static const struct command *find_command(const char *name)
{
    for (size_t i = 0; i < GT_ARRAY_SIZE(commands); i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

static int run_configured(struct context *context, const struct command *command,
                          const struct gt_config_args *args)
{
    char error[GT_CONFIG_ERROR_MAX];
    int err = gt_config_load(settings_program(), args, &context->config, error);
    if (err != 0) {
        struct failure failure;
        if (err < 0)
            snprintf(error, sizeof(error), "%s", strerror(-err));
        failure_set(&failure, err < 0 ? FAILURE_INTERNAL : FAILURE_CONFIG, NULL, "%s", error);
        return print_failure(&context->print, &failure);
    }
    context->settings = gt_config_settings(context->config);
    enum gt_log_level level;
    if (gt_log_parse_level(context->settings->log_level, &level) == 0 &&
        (level == GT_LOG_DEBUG || level > gt_log_level()))
        gt_log_open(context->program, level);
    int code = command->run(context);
    gt_config_free(context->config);
    return code;
}

/* Before the settings are read, and their log.level may only make it quieter, or debug: quiet shows
 * errors, --json warnings too; on a terminal the words are not the log's. */
static void open_log(const struct invocation *invocation, const struct print *print)
{
    enum gt_log_level level = print->style == PRINT_HUMAN ? GT_LOG_WARN : GT_LOG_INFO;
    if (print->is_quiet)
        level = invocation->given[OPTION_QUIET] ? GT_LOG_ERROR : GT_LOG_WARN;
    gt_log_open(invocation->program, level);
}

static struct context make_context(struct invocation *invocation)
{
    struct print_options how = {
        .is_json = invocation->given[OPTION_JSON] != NULL,
        .is_quiet = invocation->given[OPTION_QUIET] != NULL,
        .is_plain_color = invocation->given[OPTION_NO_COLOR] != NULL,
    };
    struct context context = {
        .program = invocation->program,
        .bind = invocation->given[OPTION_BIND],
        .is_print_port = invocation->given[OPTION_PRINT_PORT] != NULL,
        .words = invocation->words + 1,
        .n_words = invocation->n_words > 0 ? invocation->n_words - 1 : 0,
    };
    print_init(&context.print, &how);
    return context;
}

static int run_command(struct context *context, const struct command *command,
                       const struct gt_config_args *args)
{
    if (context->n_words < command->n_words_min)
        return command_misused(context, "%s needs more: %s %s", command->name, command->name,
                               command->usage);
    if (context->n_words > command->n_words_max)
        return command_misused(context, "%s: one word too many", command->name);
    context->loop = ev_default_loop(0);
    return command->has_settings ? run_configured(context, command, args) : command->run(context);
}

static int run_help(struct context *context)
{
    int page = print_page_begin();
    print_usage(context->program, page);
    print_page_end(&context->print, page);
    return 0;
}

static int run_nothing(struct context *context)
{
    print_commands(context->program, STDERR_FILENO);
    dprintf(STDERR_FILENO, "\nMore: '%s --help'.\n", context->program);
    return EXIT_USAGE;
}

static int run_unknown(struct context *context, const char *word)
{
    char shown[64];
    gt_text_escape(gt_span_text(word), shown, sizeof(shown));
    return command_misused(context, "unknown command \"%s\"", shown);
}

static int run(struct invocation *invocation, const struct gt_config_args *args)
{
    struct context context = make_context(invocation);
    const char *name = invocation->given[OPTION_VERSION] ? "version" : invocation->words[0];
    const struct command *command = name ? find_command(name) : NULL;
    int code;
    open_log(invocation, &context.print);
    if (invocation->given[OPTION_HELP])
        code = run_help(&context);
    else if (invocation->given[OPTION_VERSION])
        code = command->run(&context);
    else if (!name)
        code = run_nothing(&context);
    else if (!command)
        code = run_unknown(&context, name);
    else
        code = run_command(&context, command, args);
    if (code == 0 && context.print.stdout_errno != 0) {
        gt_error_errno(context.print.stdout_errno, "standard output");
        code = EXIT_INTERNAL;
    }
    return code;
}

int main(int argc, char **argv)
{
    struct invocation invocation = {.program = program_name(argv[0])};
    struct gt_config_parse parse = {
        .program = settings_program(),
        .other = invocation_on_option,
        .word = invocation_on_word,
        .userdata = &invocation,
    };
    struct gt_config_args args = {0};
    char error[GT_CONFIG_ERROR_MAX];
    open_standard_descriptors();
    gt_log_open(invocation.program, GT_LOG_INFO);
    for (size_t i = 0; i < GT_ARRAY_SIZE(daemons) && argc > 1; i++)
        if (strcmp(argv[1], daemons[i].word) == 0)
            return cmd_exec_daemon(daemons[i].daemon, argv + 1);
    gt_process_hide_memory();
    gt_loop_end_without_memory();
    signal(SIGPIPE, SIG_IGN);
    int err = gt_config_parse_args(&parse, argc, argv, &args, error);
    if (err != 0) {
        dprintf(STDERR_FILENO, "%s: %s\nTry '%s --help'.\n", invocation.program,
                err < 0 ? strerror(-err) : error, invocation.program);
        return err < 0 ? EXIT_INTERNAL : EXIT_USAGE;
    }
    if (invocation.given[OPTION_CONFIG])
        args.file = invocation.given[OPTION_CONFIG];
    int code = run(&invocation, &args);
    free((void *)args.sets);
    return code;
}
