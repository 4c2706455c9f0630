/* SPDX-License-Identifier: ISC */
/*
 * gotthard-relayd: arguments in, exit code out. 0 when it was told to stop and did, 64 for a wrong
 * command line, 69 when the main port cannot be had, 70 for what nobody expected, 78 for a
 * configuration that makes no sense.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "gotthard/log.h"
#include "gotthard/loop.h"
#include "gotthard/process.h"
#include "limits.h"
#include "relayd.h"
#include "upgrade.h"

enum {
    EXIT_GOOD = 0,
    EXIT_USAGE = 64,
    EXIT_UNAVAILABLE = 69,
    EXIT_INTERNAL = 70,
    EXIT_CONFIG = 78,
};

#define FD_MAX (1 << 20)

enum action {
    ACTION_RUN,
    ACTION_CHECK,
    ACTION_HELP,
    ACTION_VERSION,
    /* Of one image to the next, in an upgrade: upgrade.h. Not for people, and not in --help. */
    ACTION_REHEARSE,
    ACTION_TAKE_OVER,
};

struct command {
    enum action action;
    int fd; /* of the state, in an upgrade */
};

static int main_on_fd(struct command *command, enum action action, const char *value,
                      bool *ret_takes_value)
{
    uint64_t fd;

    *ret_takes_value = true;
    if (!value)
        return 0;
    if (gt_text_number(value, 3, FD_MAX, &fd))
        return 1;
    command->action = action;
    command->fd = (int)fd;
    return 0;
}

static int main_on_option(void *userdata, const char *option, const char *value,
                          bool *ret_takes_value)
{
    struct command *command = userdata;
    enum action *action = &command->action;

    if (!strcmp(option, UPGRADE_REHEARSE))
        return main_on_fd(command, ACTION_REHEARSE, value, ret_takes_value);
    if (!strcmp(option, UPGRADE_TAKE_OVER))
        return main_on_fd(command, ACTION_TAKE_OVER, value, ret_takes_value);
    if (!strcmp(option, "--help") || !strcmp(option, "-h"))
        *action = ACTION_HELP;
    else if (!strcmp(option, "--version") || !strcmp(option, "-V"))
        *action = ACTION_VERSION;
    else if (!strcmp(option, "--check-config"))
        *action = ACTION_CHECK;
    else
        return 1;
    return 0;
}

static int main_help(void)
{
    printf("Usage: gotthard-relayd [OPTION]...\n"
           "The public relay of Gotthard: joins operators and devices, and reads nothing.\n\n"
           "  --config FILE                  use this file instead of /etc/gotthard/relayd.conf\n"
           "  --check-config                 show every setting and where it came from, and exit\n"
           "  --help                         show this and exit\n"
           "  --version                      show the version and exit\n\n");
    fflush(stdout);
    gt_config_help(&settings_program, STDOUT_FILENO);
    printf(
        "\nSignals: TERM ends it after a drain, a second TERM at once; HUP reloads; USR1 logs a "
        "status; USR2 upgrades it to the installed program, with all its connections.\nSee gotthard-relayd(8).\n");
    return EXIT_GOOD;
}

/* Everything that can be found out before it is done in earnest. */
static int main_rehearse(struct gt_config *config, struct settings_keys *keys)
{
    struct budget budget;
    bool is_enough = !budget_make(gt_config_settings(config), &budget);

    gt_config_free(config);
    settings_wipe_keys(keys);
    return is_enough ? EXIT_GOOD : EXIT_CONFIG;
}

static int main_check(struct gt_config *config, struct settings_keys *keys)
{
    gt_config_show(config, STDOUT_FILENO);
    gt_config_free(config);
    settings_wipe_keys(keys);
    return EXIT_GOOD;
}

static int main_run(const struct relayd_call *call, enum action action)
{
    char error[GT_CONFIG_ERROR_MAX];
    struct gt_config *config;
    struct settings_keys keys;
    int r = settings_load(call->args, &config, &keys, error);

    if (r > 0) {
        gt_error("%s", error);
        return EXIT_CONFIG;
    }
    if (!r && action == ACTION_CHECK)
        return main_check(config, &keys);
    if (!r && action == ACTION_REHEARSE)
        return main_rehearse(config, &keys);
    if (!r)
        r = relayd_run(config, &keys, call);
    if (r == RELAYD_E_LISTEN)
        return EXIT_UNAVAILABLE;
    if (r == RELAYD_E_SMALL)
        return EXIT_CONFIG;
    if (r)
        gt_error_errno(r, "cannot go on");
    return r ? EXIT_INTERNAL : EXIT_GOOD;
}

/* With what another image left, if one did. */
static int main_start(const struct command *command, const struct gt_config_args *args, char **argv)
{
    struct heir heir = {.sealed = {.fd = -1}};
    struct relayd_call call = {.args = args, .argv = argv, .heir = &heir};
    int r = 0;

    if (command->action == ACTION_REHEARSE)
        r = heir_rehearse(command->fd, &heir);
    if (command->action == ACTION_TAKE_OVER)
        r = heir_take_over(command->fd, &heir);
    r = r ? EXIT_INTERNAL : main_run(&call, command->action);
    heir_deinit(&heir);
    return r;
}

/* What one image told the next is not for the one after it: "--take-over=FD" comes first. */
static void main_forget_fd(const struct command *command, char **argv)
{
    if (command->action == ACTION_TAKE_OVER)
        for (size_t i = 1; argv[i]; i++)
            argv[i] = argv[i + 1];
}

int main(int argc, char **argv)
{
    struct command command = {.action = ACTION_RUN};
    struct gt_config_parse parse = {
        .program = &settings_program, .other = main_on_option, .userdata = &command};
    struct gt_config_args args;
    char error[GT_CONFIG_ERROR_MAX];

    gt_process_hide_memory();
    gt_loop_end_without_memory();
    signal(SIGPIPE, SIG_IGN);
    gt_log_open("gotthard-relayd", GT_LOG_INFO);
    int r = gt_config_parse_args(&parse, argc, argv, &args, error);
    if (r) {
        if (r > 0)
            gt_error("%s (see --help)", error);
        return r > 0 ? EXIT_USAGE : EXIT_INTERNAL;
    }
    main_forget_fd(&command, argv);
    r = EXIT_GOOD;
    switch (command.action) {
    case ACTION_VERSION: printf("gotthard-relayd %s\n", GOTTHARD_VERSION); break;
    case ACTION_HELP: r = main_help(); break;
    case ACTION_RUN:
    case ACTION_CHECK:
    case ACTION_REHEARSE:
    case ACTION_TAKE_OVER: r = main_start(&command, &args, argv); break;
    }
    free((void *)args.sets);
    return r;
}
