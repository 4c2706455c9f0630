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
#include "relayd.h"

enum {
    EXIT_GOOD = 0,
    EXIT_USAGE = 64,
    EXIT_UNAVAILABLE = 69,
    EXIT_INTERNAL = 70,
    EXIT_CONFIG = 78,
};

enum action { ACTION_RUN, ACTION_CHECK, ACTION_HELP, ACTION_VERSION };

static int main_on_option(void *userdata, const char *option, const char *value,
                          bool *ret_takes_value)
{
    enum action *action = userdata;

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
    printf("\nSignals: TERM ends it after a drain, a second TERM at once; HUP reloads; USR1 logs a "
           "status.\nSee gotthard-relayd(8).\n");
    return EXIT_GOOD;
}

static int main_run(const struct gt_config_args *args, enum action action)
{
    char error[GT_CONFIG_ERROR_MAX];
    struct gt_config *config;
    struct settings_keys keys;
    int r = settings_load(args, &config, &keys, error);

    if (r > 0) {
        gt_error("%s", error);
        return EXIT_CONFIG;
    }
    if (!r && action == ACTION_CHECK) {
        gt_config_show(config, STDOUT_FILENO);
        gt_config_free(config);
        settings_wipe_keys(&keys);
        return EXIT_GOOD;
    }
    if (!r)
        r = relayd_run(config, &keys, args);
    if (r == RELAYD_E_LISTEN)
        return EXIT_UNAVAILABLE;
    if (r == RELAYD_E_SMALL)
        return EXIT_CONFIG;
    if (r)
        gt_error_errno(r, "cannot go on");
    return r ? EXIT_INTERNAL : EXIT_GOOD;
}

int main(int argc, char **argv)
{
    enum action action = ACTION_RUN;
    struct gt_config_parse parse = {
        .program = &settings_program, .other = main_on_option, .userdata = &action};
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
    if (action == ACTION_VERSION)
        printf("gotthard-relayd %s\n", GOTTHARD_VERSION);
    r = action == ACTION_HELP ? main_help() : EXIT_GOOD;
    if (action == ACTION_RUN || action == ACTION_CHECK)
        r = main_run(&args, action);
    free((void *)args.sets);
    return r;
}
