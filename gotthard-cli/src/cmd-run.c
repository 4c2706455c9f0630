/* SPDX-License-Identifier: ISC */
/*
 * `run --on SELECTION -- COMMAND`: one command on many devices, over ssh. This process has neither
 * key nor connection: it reads the list of a child, `devices --json`, and starts `ssh` for each
 * device, a few at a time. Both are this program, with the settings of its own command line.
 *
 * A list that is not whole is an error before anything runs. A device that is not online is
 * unreachable.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "child-process.h"
#include "command-line.h"
#include "commands.h"
#include "gotthard/base/clock.h"
#include "gotthard/base/text.h"
#include "run-output.h"
#include "selection.h"
#include "ssh-options.h"

#define FORKS_DEFAULT 5
#define FORKS_MAX     64
#define SSH_CONNECT_S "30"
#define END_S         2. /* from SIGTERM to SIGKILL */

struct run;

struct job {
    struct run *run;
    char device[GT_NAME_MAX + 1];
    bool is_online, is_unreachable;
    enum run_result result;
    double began_at;             /* seconds of gt_clock() */
    struct child_process *child; /* owned; while RUNNING */
};

struct run {
    struct context *context;
    size_t n_forks;
    struct child_process *list; /* owned; while the list is read */
    bool is_listed_whole, is_interrupted, is_warned;
    struct job *jobs; /* owned */
    size_t n_jobs, next;
    struct run_sum sum;
    ev_timer deadline; /* after an interruption */
    int worst;         /* exit status of a command */
    int code;
};

static void run_end(struct run *run, int code)
{
    run->code = code;
    ev_break(run->context->loop, EVBREAK_ALL);
}

/* --- arguments of children -------------------------------------------------------------------- */

struct words {
    char **all; /* owned, and so is each */
    size_t n;
    bool failed;
};

GT_PRINTF(2, 3)
static void add(struct words *words, const char *fmt, ...)
{
    char **all = reallocarray(words->all, words->n + 2, sizeof(*all));
    va_list args;

    if (!all) {
        words->failed = true;
        return;
    }
    words->all = all;
    va_start(args, fmt);
    if (vasprintf(&all[words->n], fmt, args) < 0) {
        all[words->n] = NULL;
        words->failed = true;
    } else {
        all[++words->n] = NULL;
    }
    va_end(args);
}

static void words_free(struct words *words)
{
    for (size_t i = 0; i < words->n; i++)
        free(words->all[i]);
    free(words->all);
}

/* The settings of this command line that @commands accept. */
static void add_settings(struct words *words, const struct command_line *line, uint32_t commands)
{
    if (line->settings.file)
        add(words, "--config=%s", line->settings.file);
    for (size_t i = 0; i < line->settings.n_sets; i++) {
        struct gt_config_args one = {.sets = &line->settings.sets[2 * i], .n_sets = 1};

        if (!gt_config_foreign_flag(settings_program(), &one, commands))
            add(words, "--%s=%s", one.sets[0], one.sets[1]);
    }
}

static void add_list(struct words *words, const struct run *run)
{
    const struct command_line *line = run->context->line;

    add(words, "%s", run->context->program);
    add(words, "devices");
    add(words, "--json");
    add_settings(words, line, COMMAND_DEVICES);
    add(words, "--");
    for (size_t i = 0; i < line->n_on; i++)
        add(words, "%s", line->on[i]);
}

/* ssh joins the words of a command by blanks, as always. */
static void add_ssh(struct words *words, const struct run *run, const char *device)
{
    const struct context *context = run->context;
    const struct command_line *line = context->line;
    const char *user = line->given[OPTION_USER];

    add(words, "%s", context->program);
    add(words, "ssh");
    add_settings(words, line, COMMAND_PROXY);
    if (line->given[OPTION_REASON])
        add(words, "--reason=%s", line->given[OPTION_REASON]);
    if (context->print.is_quiet)
        add(words, "--quiet");
    for (size_t i = 0; i < line->n_passed; i++)
        add(words, "%s", line->passed[i]);
    add(words, "-oBatchMode=yes");
    add(words, "-oConnectTimeout=" SSH_CONNECT_S);
    add(words, "%s%s%s", user ? user : "", user ? "@" : "", device);
    add(words, "--");
    for (size_t i = 0; i < context->n_arguments; i++)
        add(words, "%s", context->arguments[i]);
}

static int start(struct run *run, struct words *words, bool shares_error,
                 const struct child_events *events, void *userdata, struct child_process **ret)
{
    struct child_settings settings = {.argv = words->all, .shares_error = shares_error};
    int r = words->failed ? -ENOMEM
                          : child_process_new(run->context->loop, &settings, events, userdata, ret);

    words_free(words);
    return r;
}

/* --- jobs ------------------------------------------------------------------------------------- */

static void run_continue(struct run *run);

/* @why: of a job that was not tried. */
static void job_end(struct job *job, enum run_result result, int status, const char *why)
{
    struct run *run = job->run;

    job->result = result;
    run->sum.n_ok += result == RUN_OK;
    run->sum.n_failed += result == RUN_FAILED;
    run->sum.n_unreachable += result == RUN_UNREACHABLE;
    if (result == RUN_FAILED)
        run->worst = GT_MAX(run->worst, status);
    run_output_ended(&run->context->print, job->device, result, status, why,
                     gt_clock() - job->began_at);
}

static void job_on_line(void *userdata, bool is_error, struct gt_span line)
{
    struct job *job = userdata;

    if (is_error && run_output_take_warning(&job->run->context->print, line, &job->run->is_warned))
        return;
    job->is_unreachable |= is_error && run_output_is_unreachable(line);
    run_output_line(&job->run->context->print, job->device, is_error, line);
}

static void job_on_end(void *userdata, int status)
{
    struct job *job = userdata;
    struct run *run = job->run;

    job->child = child_process_free(job->child);
    run->sum.n_running--;
    if (run->is_interrupted)
        job->result = RUN_WAITING;
    else
        job_end(job,
                status == 0                                       ? RUN_OK
                : status == RUN_SSH_FAILED && job->is_unreachable ? RUN_UNREACHABLE
                                                                  : RUN_FAILED,
                status, "");
    run_continue(run);
}

static void job_start(struct job *job)
{
    static const struct child_events events = {.on_line = job_on_line, .on_end = job_on_end};
    struct run *run = job->run;
    struct words words = {0};

    job->began_at = gt_clock();
    add_ssh(&words, run, job->device);
    int r = start(run, &words, false, &events, job, &job->child);
    if (r < 0) {
        job_end(job, RUN_UNREACHABLE, 0, strerror(-r));
        return;
    }
    job->result = RUN_RUNNING;
    run->sum.n_running++;
    run_output_started(&run->context->print, job->device);
}

/* After an interruption, or if the reader of the output is gone, no further device is started. */
static bool run_is_stopped(const struct run *run)
{
    return run->is_interrupted || run->context->print.stdout_errno != 0;
}

static int run_exit_status(const struct run *run)
{
    if (run->is_interrupted || run->next < run->n_jobs)
        return GT_EXIT_INTERRUPTED;
    return run->sum.n_unreachable > 0 ? GT_EXIT_UNAVAILABLE : run->worst;
}

/* Starts what there is room for; the end, if nothing is left. */
static void run_continue(struct run *run)
{
    while (!run_is_stopped(run) && run->next < run->n_jobs && run->sum.n_running < run->n_forks) {
        struct job *job = &run->jobs[run->next++];

        if (!ssh_options_can_name(job->device))
            job_end(job, RUN_UNREACHABLE, 0,
                    "ssh cannot name a device with @ or with .gotthard at its end");
        else if (job->is_online)
            job_start(job);
        else
            job_end(job, RUN_UNREACHABLE, 0, "not online");
    }
    if (run->sum.n_running > 0) {
        run_output_progress(&run->context->print, &run->sum);
        return;
    }
    run_output_sum(&run->context->print, &run->sum);
    run_end(run, run_exit_status(run));
}

/* --- the list --------------------------------------------------------------------------------- */

static void run_add_job(struct run *run, const char *device, bool is_online)
{
    struct job *jobs = reallocarray(run->jobs, run->n_jobs + 1, sizeof(*jobs));

    if (!jobs) {
        run->is_listed_whole = false;
        return;
    }
    run->jobs = jobs;
    jobs[run->n_jobs] = (struct job){.run = run, .is_online = is_online};
    snprintf(jobs[run->n_jobs].device, sizeof(jobs->device), "%s", device);
    run->n_jobs++;
}

/* An event of an error is passed on; all other lines are devices. */
static void list_on_line(void *userdata, bool is_error, struct gt_span line)
{
    struct run *run = userdata;
    json_t *row = json_loadb((const char *)line.data, line.n, 0, NULL);
    const char *device = json_string_value(json_object_get(row, "device"));

    if (device && gt_text_is_name(gt_span_text(device)))
        run_add_job(run, device, json_is_true(json_object_get(row, "online")));
    else if (row && run->context->print.is_json)
        print_json(&run->context->print, json_incref(row));
    else if (!row)
        run->is_listed_whole = false;
    json_decref(row);
}

static void list_on_end(void *userdata, int status)
{
    struct run *run = userdata;
    struct failure failure;

    run->list = child_process_free(run->list);
    print_clear_progress(&run->context->print);
    if (run->is_interrupted || status != 0 || !run->is_listed_whole) {
        run_end(run, run->is_interrupted ? GT_EXIT_INTERRUPTED
                     : status != 0       ? status
                                         : GT_EXIT_INTERNAL);
        return;
    }
    run->sum.n = run->n_jobs;
    if (run->n_jobs == 0) {
        failure_set(&failure, FAILURE_USAGE, "see gotthard-cli devices with the same words",
                    "no device is selected");
        run_end(run, print_failure(&run->context->print, &failure));
        return;
    }
    print_event(&run->context->print, "selected", "{s:I}", "devices", (json_int_t)run->n_jobs);
    run_continue(run);
}

/* --- signals ---------------------------------------------------------------------------------- */

static void run_signal_all(struct run *run, int number)
{
    if (run->list)
        child_process_signal(run->list, number);
    for (size_t i = 0; i < run->n_jobs; i++)
        if (run->jobs[i].child)
            child_process_signal(run->jobs[i].child, number);
}

static void run_on_deadline(struct ev_loop *loop, ev_timer *timer, int revents)
{
    run_signal_all(timer->data, SIGKILL);
}

/* The second one ends everything at once. */
static void run_on_signal(void *userdata, int number)
{
    struct run *run = userdata;

    if (run->is_interrupted) {
        run_signal_all(run, SIGKILL);
        run_end(run, GT_EXIT_INTERRUPTED);
        return;
    }
    run->is_interrupted = true;
    run_signal_all(run, SIGTERM);
    ev_timer_start(run->context->loop, &run->deadline);
}

/* --- the command ------------------------------------------------------------------------------ */

static bool check_selection(struct context *context)
{
    const struct command_line *line = context->line;
    struct selection *selection = calloc(1, sizeof(*selection));
    const char *why = selection ? NULL : "out of memory";
    size_t i = 0;

    for (; i < line->n_on && !why; i++)
        why = selection_add(selection, line->on[i]);
    free(selection);
    if (why)
        command_misused(context, "--on '%s': %s", line->on[i > 0 ? i - 1 : 0], why);
    else if (line->n_on == 0)
        command_misused(context, "missing --on; '*' selects all devices");
    return !why && line->n_on > 0;
}

static bool parse_forks(struct context *context, size_t *ret)
{
    const char *text = context->line->given[OPTION_FORKS];
    uint64_t n = FORKS_DEFAULT;

    if (text && gt_text_number(text, 1, FORKS_MAX, &n) != 0) {
        command_misused(context, "--forks: expected a number from 1 to %d", FORKS_MAX);
        return false;
    }
    *ret = (size_t)n;
    return true;
}

static bool check_user(struct context *context)
{
    const char *user = context->line->given[OPTION_USER];

    if (!user || gt_text_is_name(gt_span_text(user)))
        return true;
    command_misused(context, "--user: not the name of a user");
    return false;
}

static void run_start(struct run *run)
{
    static const struct child_events events = {.on_line = list_on_line, .on_end = list_on_end};
    struct words words = {0};
    struct failure failure;

    add_list(&words, run);
    print_progress(&run->context->print, "reading the list of devices");
    int r = start(run, &words, true, &events, run, &run->list);
    if (r == 0)
        return;
    failure_set(&failure, FAILURE_INTERNAL, NULL, "cannot start a process: %s", strerror(-r));
    run_end(run, print_failure(&run->context->print, &failure));
}

int cmd_run(struct context *context)
{
    struct run run = {.context = context, .is_listed_whole = true};
    struct command_signals signals;

    if (!check_selection(context) || !parse_forks(context, &run.n_forks) || !check_user(context) ||
        !command_check_purpose(context))
        return GT_EXIT_USAGE;
    ev_timer_init(&run.deadline, run_on_deadline, END_S, 0.);
    run.deadline.data = &run;
    command_signals_start(&signals, context->loop, run_on_signal, &run);
    run_start(&run);
    if (run.list)
        ev_run(context->loop, 0);
    command_signals_stop(&signals);
    ev_timer_stop(context->loop, &run.deadline);
    child_process_free(run.list);
    for (size_t i = 0; i < run.n_jobs; i++)
        child_process_free(run.jobs[i].child);
    free(run.jobs);
    return run.code;
}
