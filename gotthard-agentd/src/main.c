/* SPDX-License-Identifier: ISC */
/*
 * The command line of gotthard-agentd. One program is two kinds of process: the listener, and (run
 * by the listener with --worker) the worker of one session.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "agentd.h"
#include "doctor.h"
#include "enrolment.h"
#include "gotthard/base/descriptor-limit.h"
#include "gotthard/base/exit-status.h"
#include "gotthard/base/format.h"
#include "gotthard/base/hardening.h"
#include "gotthard/base/log.h"
#include "gotthard/base/loop.h"
#include "gotthard/base/reload-client.h"
#include "gotthard/base/standard-fds.h"
#include "gotthard/config/config-wait.h"
#include "settings.h"
#include "setup-summary.h"
#include "worker.h"

/* Bytes, of the listener. libmosquitto allocates what the length field of a packet announces, and a
 * hostile broker can announce 256 MiB. */
#define MEMORY_MAX (128u << 20)
/* A stream has its target's socket, and while it moves or resolves a name one or two more. */
#define WORKER_DESCRIPTORS (2 * SETTINGS_STREAMS_MAX + 1024)

enum command {
    COMMAND_SERVE,
    COMMAND_CHECK,
    COMMAND_DOCTOR,
    COMMAND_RELOAD,
    COMMAND_HELP,
    COMMAND_VERSION
};

struct options {
    enum command command;
    struct doctor_options doctor;
    bool has_doctor_option;
    struct gt_enrolment_options enrolment;
};

static int main_on_word(void *userdata, const char *word)
{
    struct options *options = userdata;

    return gt_enrolment_options_word(&options->enrolment, word);
}

static int main_on_option(void *userdata, const char *option, const char *value,
                          bool *ret_takes_value)
{
    struct options *options = userdata;
    enum command *command = &options->command;

    *ret_takes_value = false;
    if (strcmp(option, "--check-config") == 0)
        *command = COMMAND_CHECK;
    else if (strcmp(option, "--doctor") == 0)
        *command = COMMAND_DOCTOR;
    else if (strcmp(option, "--reload") == 0)
        *command = COMMAND_RELOAD;
    else if (strcmp(option, "--json") == 0)
        options->has_doctor_option = options->doctor.is_json = true;
    else if (strcmp(option, "--no-color") == 0)
        options->has_doctor_option = options->doctor.is_plain_color = true;
    else if (strcmp(option, "--help") == 0 || strcmp(option, "-h") == 0)
        *command = COMMAND_HELP;
    else if (strcmp(option, "--version") == 0 || strcmp(option, "-V") == 0)
        *command = COMMAND_VERSION;
    else
        return gt_enrolment_options_option(&options->enrolment, option, value, ret_takes_value);
    return 0;
}

static void print_help(void)
{
    dprintf(STDOUT_FILENO,
            "Usage: gotthard-agentd [OPTION]...\n"
            "       gotthard-agentd enroll [TOKEN|FILE|-]\n"
            "Makes this device reachable for its operators through an MQTT broker and a relay.\n\n"
            "  --config FILE                  read FILE instead of the files in /etc/gotthard\n"
            "  --check-config                 print each setting with its source, and exit\n"
            "  --doctor                       check each hop to the operators, and exit\n"
            "  --reload                       make the running agent reload, and exit with its "
            "result\n"
            "  enroll [TOKEN|FILE|-]          become a device of a fleet, by a token of its "
            "operator, and exit\n"
            "  --install FILE                 the same, by a bundle file\n"
            "  --force                        replace the identity of an earlier enrolment\n"
            "  --no-start                     leave the service alone after an enrolment\n"
            "  --json                         print JSON, one row a line, with --doctor\n"
            "  --no-color                     print without colors, with --doctor\n"
            "  --help                         print this help, and exit\n"
            "  --version                      print the version, and exit\n\n");
    gt_config_help(settings_program(), 0, STDOUT_FILENO);
    dprintf(STDOUT_FILENO, "\nSIGHUP reloads the configuration, SIGUSR1 logs the status. See "
                           "gotthard-agentd(8).\n");
}

struct start {
    const struct gt_config_args *args;
    struct setup *setup;
};

static int start_load(void *userdata, char *ret_error)
{
    struct start *start = userdata;

    return setup_new_or_last_good(start->args, &start->setup, ret_error);
}

static int serve(const struct gt_config_args *args, bool is_check_only)
{
    char error[GT_CONFIG_ERROR_MAX] = "";
    struct start start = {.args = args};

    int r = is_check_only ? setup_new(args, &start.setup, error)
                          : gt_config_wait(start_load, &start, error);
    if (r == GT_CONFIG_E_STOPPED)
        return GT_EXIT_SUCCESS;
    if (r) {
        gt_error_errno(r < 0 ? r : 0, "%s", r > 0 ? error : "cannot load the configuration");
        return r > 0 ? GT_EXIT_CONFIGURATION : GT_EXIT_INTERNAL;
    }
    struct setup *setup = start.setup;
    setup_apply_log_level(setup);
    setup_warn(setup);
    if (!is_check_only)
        return agentd_run(setup, args, setup->is_last_good ? error : "");
    setup_show(setup, STDOUT_FILENO);
    setup_free(setup);
    return 0;
}

static void main_print_error(const char *error)
{
    char line[GT_CONFIG_ERROR_MAX + 64];

    gt_format(GT_FORMAT_TEXT, line, sizeof(line), "gotthard-agentd: %s\n", error);
    dprintf(STDERR_FILENO, "%s", line);
}

static int serve_or_enrol(const struct gt_config_args *args,
                          const struct gt_enrolment_options *enrolment)
{
    if (!gt_enrolment_options_is_used(enrolment))
        return serve(args, false);
    return enrolment->is_enrol ? enrolment_run(enrolment) : enrolment_install_file(enrolment);
}

static int main_run(const struct options *options, const struct gt_config_args *args)
{
    if (options->has_doctor_option && options->command != COMMAND_DOCTOR) {
        main_print_error("--json and --no-color need --doctor");
        return GT_EXIT_USAGE;
    }
    const char *why =
        gt_enrolment_options_check(&options->enrolment, args, options->command != COMMAND_SERVE);
    if (why && options->command != COMMAND_HELP && options->command != COMMAND_VERSION) {
        main_print_error(why);
        return GT_EXIT_USAGE;
    }
    switch (options->command) {
    case COMMAND_HELP: print_help(); break;
    case COMMAND_VERSION: printf("gotthard-agentd %s\n", GOTTHARD_VERSION); break;
    case COMMAND_RELOAD:
        return gt_reload_client_run("gotthard-agentd", SIGHUP, GT_RELOAD_DEADLINE_MS);
    case COMMAND_DOCTOR: return doctor_run(args, &options->doctor);
    case COMMAND_CHECK: return serve(args, true);
    case COMMAND_SERVE: return serve_or_enrol(args, &options->enrolment);
    }
    return GT_EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    struct options options = {.command = COMMAND_SERVE};
    struct gt_config_parse parse = {
        .program = settings_program(),
        .other = main_on_option,
        .word = main_on_word,
        .userdata = &options,
    };
    char error[GT_CONFIG_ERROR_MAX];
    struct gt_config_args args;

    gt_hardening_hide_memory();
    gt_loop_set_allocator();
    if (argc == 2 && strcmp(argv[1], "--worker") == 0) {
        gt_hardening_lift_memory_limit();
        gt_descriptor_limit_raise(WORKER_DESCRIPTORS);
        return worker_main();
    }
    gt_hardening_limit_memory(MEMORY_MAX);
    if (gt_standard_fds_open() < 0)
        return GT_EXIT_INTERNAL;
    gt_log_open("gotthard-agentd", GT_LOG_INFO);
    int r = gt_config_parse_args(&parse, argc, argv, &args, error);
    if (r) {
        main_print_error(r < 0 ? strerror(-r) : error);
        return r < 0 ? GT_EXIT_INTERNAL : GT_EXIT_USAGE;
    }
    int status = main_run(&options, &args);
    free((void *)args.sets);
    return status;
}
