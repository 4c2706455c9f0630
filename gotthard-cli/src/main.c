/* SPDX-License-Identifier: ISC */
/*
 * The start of gotthard-cli: standard descriptors, command line, log and settings, then the command
 * of the table (command-table.c). Called as `gotthard` it also has the original tool's names for
 * the two daemons. No command's work is done here.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "command-line.h"
#include "complete-words.h"
#include "gotthard/base/hardening.h"
#include "gotthard/base/log.h"
#include "gotthard/base/loop.h"
#include "gotthard/base/standard-fds.h"

static const char *program_name(const char *path)
{
    const char *slash = path ? strrchr(path, '/') : NULL;
    const char *name = slash ? slash + 1 : path;

    return name && strcmp(name, "gotthard") == 0 ? "gotthard" : "gotthard-cli";
}

static int run_with_settings(struct context *context, const struct gt_config_args *args)
{
    char error[GT_CONFIG_ERROR_MAX];
    enum gt_log_level level;
    int r = gt_config_load(settings_program(), args, &context->config, error);

    if (r != 0) {
        struct failure failure;

        if (r < 0)
            snprintf(error, sizeof(error), "%s", strerror(-r));
        failure_set(&failure, r < 0 ? FAILURE_INTERNAL : FAILURE_CONFIG, NULL, "%s", error);
        return context->command->on_misconfigured
                   ? context->command->on_misconfigured(context, &failure)
                   : print_failure(&context->print, &failure);
    }
    context->settings = gt_config_settings(context->config);
    failure_use_settings(context->config);
    if (gt_log_parse_level(context->settings->log_level, &level) == 0 &&
        (level == GT_LOG_DEBUG || level > gt_log_level()))
        gt_log_open(context->program, level);
    int code = context->command->run(context);
    failure_use_settings(NULL);
    gt_config_free(context->config);
    return code;
}

/* The level before the settings are loaded; their log.level can only make it quieter, or debug.
 * With --quiet errors are shown, with --json warnings as well. On a terminal print.c shows the
 * milestones, and the log only warnings and errors. */
static void open_log(const struct context *context, bool is_quiet)
{
    const struct print *print = &context->print;
    enum gt_log_level level = print->style == PRINT_HUMAN ? GT_LOG_WARN : GT_LOG_INFO;

    if (print->is_quiet)
        level = is_quiet ? GT_LOG_ERROR : GT_LOG_WARN;
    gt_log_open(context->program, level);
}

static int run_command(struct context *context, const struct command_line *line)
{
    const struct command *command = context->command;
    const char *foreign = command_line_foreign_option(line, command);
    char shown[64];

    if (foreign)
        return command_misused(context, "unrecognized option '--%s'", foreign);
    if (context->n_arguments < command->n_arguments_min)
        return command_misused(context, "missing argument");
    if (context->n_arguments > command->n_arguments_max) {
        const char *extra = context->arguments[command->n_arguments_max];

        return command_misused(context, "unexpected argument '%s'",
                               gt_text_shorten(extra, shown, sizeof(shown)));
    }
    context->loop = ev_default_loop(0);
    if (!command->settings || command->passes_settings)
        return command->run(context);
    return run_with_settings(context, &line->settings);
}

static int run_without_command(struct context *context)
{
    help_print_commands(context->program, STDERR_FILENO);
    return print_failure_event(&context->print, FAILURE_USAGE, "no command is given",
                               "see the list of commands: --help");
}

static int run(struct context *context, const struct command_line *line)
{
    const char *name = line->n_arguments > 0 ? line->arguments[0] : NULL;

    if (name && !context->command)
        return command_unknown(context, name);
    if (line->given[OPTION_HELP])
        return help_print(context, context->command);
    if (line->given[OPTION_VERSION])
        return cmd_version(context);
    if (!name)
        return run_without_command(context);
    return run_command(context, line);
}

/* Returns true if --json is among the arguments, wherever a usage error is. */
static bool has_json(int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], command_line_options[OPTION_JSON].name) == 0)
            return true;
    return false;
}

static void init_context(struct context *context, struct command_line *line, bool is_json)
{
    struct print_options print = {
        .is_json = is_json,
        .is_quiet = line->given[OPTION_QUIET] != NULL,
        .is_plain_color = line->given[OPTION_NO_COLOR] != NULL,
    };

    context->line = line;
    context->bind = line->given[OPTION_BIND];
    context->socket = line->given[OPTION_SOCKET];
    context->socks = line->given[OPTION_SOCKS];
    context->is_online_only = line->given[OPTION_ONLINE] != NULL;
    context->is_watching = line->given[OPTION_WATCH] != NULL;
    context->is_inventory = line->given[OPTION_INVENTORY] != NULL;
    context->is_confirmed = line->given[OPTION_YES] != NULL;
    context->purpose = line->given[OPTION_REASON];
    context->wait = line->given[OPTION_WAIT];
    context->is_background = line->given[OPTION_BACKGROUND] != NULL;
    context->is_all = line->given[OPTION_ALL] != NULL;
    context->is_print_port = line->given[OPTION_PRINT_PORT] != NULL;
    if (line->n_arguments > 0) {
        context->command = command_find(line->arguments[0]);
        context->arguments = line->arguments + 1;
        context->n_arguments = line->n_arguments - 1;
    }
    if (context->command && !(command_line_options[OPTION_JSON].commands & context->command->bit))
        print.is_json = false; /* standard output is not for events */
    print_init(&context->print, &print);
}

int main(int argc, char **argv)
{
    struct context context = {.program = program_name(argv[0])};
    const struct daemon_command *daemon = argc > 1 ? daemon_find(argv[1]) : NULL;
    struct command_line line;
    char error[GT_CONFIG_ERROR_MAX];

    if (gt_standard_fds_open() < 0)
        return GT_EXIT_INTERNAL;
    gt_log_open(context.program, GT_LOG_INFO);
    if (argc > 1 && strcmp(argv[1], COMPLETE_WORDS) == 0) {
        complete_words(argc - 2, argv + 2, STDOUT_FILENO);
        return 0;
    }
    if (daemon)
        return cmd_exec_daemon(daemon->daemon, argv + 1);
    gt_hardening_hide_memory();
    gt_loop_set_allocator();
    signal(SIGPIPE, SIG_IGN);
    int r = command_line_parse(argc, argv, &line, error);
    init_context(&context, &line, r == 0 ? line.given[OPTION_JSON] != NULL : has_json(argc, argv));
    if (r != 0) {
        command_misused(&context, "%s", r < 0 ? strerror(-r) : error);
        command_line_deinit(&line);
        return r < 0 ? GT_EXIT_INTERNAL : GT_EXIT_USAGE;
    }
    open_log(&context, line.given[OPTION_QUIET] != NULL);
    int code = run(&context, &line);
    command_line_deinit(&line);
    int err = context.print.stdout_errno;
    if (code == 0 && err != 0 && err != EPIPE && err != EINTR) {
        gt_error_errno(err, "standard output");
        code = GT_EXIT_INTERNAL;
    }
    return code;
}
