/* SPDX-License-Identifier: ISC */
/*
 * The command line and the exit status of gotthard-relayd: 0 after a requested stop, 64 for a wrong
 * command line, 69 if the main port is not available, 70 for an unexpected error, 78 for an invalid
 * configuration or too few descriptors.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "enrolment.h"
#include "gotthard/base/exit-status.h"
#include "gotthard/base/hardening.h"
#include "gotthard/base/log.h"
#include "gotthard/base/loop.h"
#include "gotthard/base/reload-client.h"
#include "gotthard/base/standard-fds.h"
#include "gotthard/config/config-wait.h"
#include "relayd.h"
#include "settings-limits.h"
#include "settings-warnings.h"
#include "upgrade/rehearsal.h"

#define FD_MAX (1 << 20)

enum action {
    ACTION_RUN,
    ACTION_CHECK,
    ACTION_RELOAD,
    ACTION_HELP,
    ACTION_VERSION,
    /* From one image to the next, in an upgrade (upgrade/rehearsal.h); not in --help. */
    ACTION_REHEARSE,
    ACTION_TAKE_OVER,
};

struct command {
    enum action action;
    int fd; /* REHEARSE, TAKE_OVER: the state */
    struct gt_enrolment_options enrolment;
};

static int main_on_word(void *userdata, const char *word)
{
    struct command *command = userdata;

    return gt_enrolment_options_word(&command->enrolment, word);
}

/* @value NULL: the parser asks whether the option takes a value. */
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

    if (strcmp(option, UPGRADE_REHEARSE) == 0)
        return main_on_fd(command, ACTION_REHEARSE, value, ret_takes_value);
    if (strcmp(option, UPGRADE_TAKE_OVER) == 0)
        return main_on_fd(command, ACTION_TAKE_OVER, value, ret_takes_value);
    if (strcmp(option, "--help") == 0 || strcmp(option, "-h") == 0)
        *action = ACTION_HELP;
    else if (strcmp(option, "--version") == 0 || strcmp(option, "-V") == 0)
        *action = ACTION_VERSION;
    else if (strcmp(option, "--check-config") == 0)
        *action = ACTION_CHECK;
    else if (strcmp(option, "--reload") == 0)
        *action = ACTION_RELOAD;
    else
        return gt_enrolment_options_option(&command->enrolment, option, value, ret_takes_value);
    return 0;
}

static int main_help(void)
{
    printf(
        "Usage: gotthard-relayd [OPTION]...\n"
        "       gotthard-relayd enroll [TOKEN|FILE|-]\n"
        "The public relay of Gotthard: connects operators and devices, and cannot read their data.\n\n"
        "  --config FILE                  use this file instead of those in /etc/gotthard\n"
        "  --check-config                 show all settings with their origin, and exit\n"
        "  --reload                       upgrade the running relay, and exit with its result\n"
        "  enroll [TOKEN|FILE|-]          become a relay of a fleet, by a token of its operator, and exit\n"
        "  --install FILE                 the same, by a bundle file\n"
        "  --force                        replace the identity of an earlier enrolment\n"
        "  --no-start                     leave the service alone after an enrolment\n"
        "  --help                         show this and exit\n"
        "  --version                      show the version and exit\n\n");
    fflush(stdout);
    gt_config_help(settings_program(), 0, STDOUT_FILENO);
    printf(
        "\nSignals: TERM drains and stops, a second TERM stops at once; HUP reloads the configuration; "
        "USR1 logs a status; USR2 upgrades to the installed program without interrupting tunnels.\n"
        "See gotthard-relayd(8).\n");
    return GT_EXIT_SUCCESS;
}

/* Checks without side effects what a start or a take-over would need. The state of a take-over has
 * been checked already. */
static int main_check(struct gt_config *config, struct admission *admission, bool is_shown)
{
    const struct descriptor_budget_request request =
        settings_descriptor_request(gt_config_settings(config));
    struct descriptor_budget budget;
    bool is_enough = !descriptor_budget_compute(&request, &budget);

    if (is_enough && is_shown) {
        settings_warnings_log(gt_config_settings(config), admission);
        gt_config_show(config, STDOUT_FILENO);
        dprintf(STDOUT_FILENO,
                "# In effect:\n#   clients with a key derived from %s\n#   clients refused: %zu\n",
                admission->n_keys == ADMISSION_N_KEYS ? "crypt.key or crypt.key_previous"
                                                      : "crypt.key",
                admission->refused.n);
    }
    gt_config_free(config);
    admission_deinit(admission);
    return is_enough ? GT_EXIT_SUCCESS : GT_EXIT_CONFIGURATION;
}

struct start {
    const struct gt_config_args *args;
    struct gt_config *config;
    struct admission admission;
};

static int start_load(void *userdata, char *ret_error)
{
    struct start *start = userdata;

    return settings_load(start->args, &start->config, &start->admission, ret_error);
}

static int main_run(const struct relayd_invocation *invocation, enum action action)
{
    char error[GT_CONFIG_ERROR_MAX];
    struct start start = {.args = invocation->args};
    bool is_check = action == ACTION_CHECK || action == ACTION_REHEARSE;
    int r = is_check ? start_load(&start, error) : gt_config_wait(start_load, &start, error);

    if (r == GT_CONFIG_E_STOPPED)
        return GT_EXIT_SUCCESS;
    if (r > 0) {
        gt_error("%s", error);
        if (action == ACTION_REHEARSE)
            rehearsal_send_reason(error);
        return GT_EXIT_CONFIGURATION;
    }
    if (!r && is_check)
        return main_check(start.config, &start.admission, action == ACTION_CHECK);
    if (!r)
        r = relayd_run(start.config, &start.admission, invocation);
    if (r == RELAYD_E_LISTEN)
        return GT_EXIT_UNAVAILABLE;
    if (r == RELAYD_E_TOO_FEW_DESCRIPTORS)
        return GT_EXIT_CONFIGURATION;
    if (r)
        gt_error_errno(r, "unexpected error");
    return r ? GT_EXIT_INTERNAL : GT_EXIT_SUCCESS;
}

/* Opens the state of the previous image, if there is one, before anything else. */
static int main_start(const struct command *command, const struct gt_config_args *args, char **argv)
{
    struct restore restore = {.memfd = {.fd = -1}};
    struct relayd_invocation invocation = {.args = args, .argv = argv, .restore = &restore};
    int r = 0;

    if (command->action == ACTION_REHEARSE)
        r = restore_rehearse(command->fd, &restore);
    if (command->action == ACTION_TAKE_OVER)
        r = restore_take_over(command->fd, &restore);
    r = r ? GT_EXIT_INTERNAL : main_run(&invocation, command->action);
    restore_deinit(&restore);
    return r;
}

/* Removes "--take-over=FD", the first argument: the next upgrade passes another one. */
static void main_remove_fd_argument(const struct command *command, char **argv)
{
    if (command->action == ACTION_TAKE_OVER)
        for (size_t i = 1; argv[i]; i++)
            argv[i] = argv[i + 1];
}

static int main_act(const struct command *command, const struct gt_config_args *args, char **argv)
{
    const struct gt_enrolment_options *enrolment = &command->enrolment;
    const char *why = gt_enrolment_options_check(enrolment, args, command->action != ACTION_RUN);
    bool is_information = command->action == ACTION_HELP || command->action == ACTION_VERSION;

    if (why && !is_information) {
        gt_error("%s (see --help)", why);
        return GT_EXIT_USAGE;
    }
    switch (command->action) {
    case ACTION_VERSION: printf("gotthard-relayd %s\n", GOTTHARD_VERSION); break;
    case ACTION_HELP: return main_help();
    case ACTION_RELOAD:
        return gt_reload_client_run("gotthard-relayd", SIGUSR2, GT_RELOAD_DEADLINE_MS);
    case ACTION_RUN:
        if (gt_enrolment_options_is_used(enrolment))
            return enrolment->is_enrol ? enrolment_run(enrolment)
                                       : enrolment_install_file(enrolment);
        return main_start(command, args, argv);
    case ACTION_CHECK:
    case ACTION_REHEARSE:
    case ACTION_TAKE_OVER: return main_start(command, args, argv);
    }
    return GT_EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    struct command command = {.action = ACTION_RUN};
    struct gt_config_parse parse = {
        .program = settings_program(),
        .other = main_on_option,
        .word = main_on_word,
        .userdata = &command,
    };
    struct gt_config_args args;
    char error[GT_CONFIG_ERROR_MAX];

    gt_hardening_hide_memory();
    gt_loop_set_allocator();
    signal(SIGPIPE, SIG_IGN);
    if (gt_standard_fds_open() < 0)
        return GT_EXIT_INTERNAL;
    gt_log_open("gotthard-relayd", GT_LOG_INFO);
    int r = gt_config_parse_args(&parse, argc, argv, &args, error);
    if (r) {
        if (r > 0)
            gt_error("%s (see --help)", error);
        return r > 0 ? GT_EXIT_USAGE : GT_EXIT_INTERNAL;
    }
    main_remove_fd_argument(&command, argv);
    r = main_act(&command, &args, argv);
    free((void *)args.sets);
    return r;
}
