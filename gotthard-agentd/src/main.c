/* SPDX-License-Identifier: ISC */
/*
 * gotthard-agentd's door: the command line, and which of two programs this run is: the listener, or
 * (started by it, with --worker) the process of one session.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "agentd.h"
#include "gotthard/log.h"
#include "gotthard/loop.h"
#include "gotthard/process.h"
#include "worker.h"

/* Of the listener: a broker says how large its packets are, and libmosquitto believes it. */
#define MEMORY_MAX (128u << 20)

enum { EXIT_USAGE = 64, EXIT_INTERNAL = 70, EXIT_CONFIGURATION = 78 };

enum command { COMMAND_SERVE, COMMAND_CHECK, COMMAND_HELP, COMMAND_VERSION };

/* So that no socket ever gets the number 0, 1 or 2. */
static void open_standard_descriptors(void)
{
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

    while (fd >= 0 && fd <= STDERR_FILENO)
        fd = fcntl(fd, F_DUPFD, 0);
    if (fd > STDERR_FILENO)
        close(fd);
    for (fd = 0; fd <= STDERR_FILENO; fd++)
        fcntl(fd, F_SETFD, 0);
}

static int main_on_option(void *userdata, const char *option, const char *value,
                          bool *ret_takes_value)
{
    enum command *command = userdata;

    *ret_takes_value = false;
    if (strcmp(option, "--check-config") == 0)
        *command = COMMAND_CHECK;
    else if (strcmp(option, "--help") == 0 || strcmp(option, "-h") == 0)
        *command = COMMAND_HELP;
    else if (strcmp(option, "--version") == 0 || strcmp(option, "-V") == 0)
        *command = COMMAND_VERSION;
    else
        return 1;
    return 0;
}

static void print_help(void)
{
    dprintf(STDOUT_FILENO,
            "Usage: gotthard-agentd [OPTION]...\n"
            "Makes this device reachable for its operators, through an MQTT broker and a relay.\n\n"
            "  --config FILE                  read FILE instead of /etc/gotthard/agentd.conf\n"
            "  --check-config                 show each setting and where it came from, and end\n"
            "  --help                         show this, and end\n"
            "  --version                      show the version, and end\n\n");
    gt_config_help(&settings_program, STDOUT_FILENO);
    dprintf(STDOUT_FILENO, "\nSIGHUP reloads the configuration, SIGUSR1 logs the status. See "
                           "gotthard-agentd(8).\n");
}

static int serve(const struct gt_config_args *args, bool is_check_only)
{
    char error[GT_CONFIG_ERROR_MAX] = "";
    enum gt_log_level level = GT_LOG_INFO;
    struct setup *setup;

    int r = setup_new(args, &setup, error);
    if (r) {
        gt_error_errno(r < 0 ? r : 0, "%s", r > 0 ? error : "the configuration cannot be loaded");
        return r > 0 ? EXIT_CONFIGURATION : EXIT_INTERNAL;
    }
    if (gt_log_parse_level(setup->settings->log_level, &level) == 0)
        gt_log_open("gotthard-agentd", level);
    setup_warn(setup);
    if (!is_check_only)
        return agentd_run(setup, args);
    gt_config_show(setup->config, STDOUT_FILENO);
    setup_free(setup);
    return 0;
}

int main(int argc, char **argv)
{
    enum command command = COMMAND_SERVE;
    struct gt_config_parse parse = {
        .program = &settings_program,
        .other = main_on_option,
        .userdata = &command,
    };
    char error[GT_CONFIG_ERROR_MAX];
    struct gt_config_args args;

    gt_process_hide_memory();
    gt_loop_end_without_memory();
    if (argc == 2 && strcmp(argv[1], "--worker") == 0) {
        gt_process_lift_memory_limit();
        return worker_main();
    }
    gt_process_limit_memory(MEMORY_MAX);
    open_standard_descriptors();
    gt_log_open("gotthard-agentd", GT_LOG_INFO);
    int r = gt_config_parse_args(&parse, argc, argv, &args, error);
    if (r) {
        dprintf(STDERR_FILENO, "gotthard-agentd: %s\n", r < 0 ? strerror(-r) : error);
        return r < 0 ? EXIT_INTERNAL : EXIT_USAGE;
    }
    int code = 0;
    switch (command) {
    case COMMAND_HELP: print_help(); break;
    case COMMAND_VERSION: printf("gotthard-agentd %s\n", GOTTHARD_VERSION); break;
    case COMMAND_CHECK:
    case COMMAND_SERVE: code = serve(&args, command == COMMAND_CHECK); break;
    }
    free((void *)args.sets);
    return code;
}
