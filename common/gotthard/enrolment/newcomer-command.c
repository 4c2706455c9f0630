/* SPDX-License-Identifier: ISC */
/* The texts around a newcomer; see the header. */
#include "gotthard/enrolment/newcomer-command.h"

#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include "gotthard/base/format.h"

struct run {
    const struct gt_newcomer_command *command;
    struct ev_loop *loop;
    struct gt_certificate_key *key; /* owned */
    struct gt_newcomer *newcomer;   /* owned */
    bool has_waited;
    char last_why[GT_NEWCOMER_WHY]; /* of on_retry, which may repeat */
    enum gt_exit_status status;
};

void gt_newcomer_print_error(const char *program, const char *fmt, ...)
{
    char text[1024], line[1200];
    va_list arguments;

    va_start(arguments, fmt);
    vsnprintf(text, sizeof(text), fmt, arguments);
    va_end(arguments);
    gt_format(GT_FORMAT_TEXT, line, sizeof(line), "%s: %s\n", program, text);
    dprintf(STDERR_FILENO, "%s", line);
}

/* --- the token -------------------------------------------------------------------------------- */

static GT_PRINTF(2, 3) int fail(char *ret_why, const char *fmt, ...)
{
    va_list arguments;

    va_start(arguments, fmt);
    vsnprintf(ret_why, GT_NEWCOMER_WHY, fmt, arguments);
    va_end(arguments);
    return GT_NEWCOMER_E_TOKEN;
}

/* Reads to the end, or from a terminal to the end of a line. Returns false if it does not fit. */
static bool read_text(int fd, char *ret, size_t cap)
{
    size_t n = 0;
    ssize_t r;

    while ((r = read(fd, ret + n, cap - n)) != 0) {
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0 || (n += (size_t)r) == cap)
            return false;
        if (ret[n - 1] == '\n' && isatty(fd))
            break;
    }
    ret[n] = 0;
    return true;
}

static int open_text(const char *word, int *ret_fd, char *ret_why)
{
    if (word && strcmp(word, "-") != 0) {
        *ret_fd = open(word, O_RDONLY | O_CLOEXEC | O_NOCTTY);
        return *ret_fd >= 0 ? 0
                            : fail(ret_why, "%.200s: %s. A token begins with " GT_TOKEN_PREFIX,
                                   word, strerror(errno));
    }
    if (isatty(STDIN_FILENO))
        dprintf(STDOUT_FILENO, "Token (" GT_TOKEN_PREFIX "...): ");
    *ret_fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
    return *ret_fd >= 0 ? 0 : -errno;
}

/* @text: an lvalue of the caller, which it wipes. */
static int read_word(const char *word, char *ret, size_t cap, char *ret_why)
{
    gt_cleanup(gt_close) int fd = -1;

    if (word && strncmp(word, GT_TOKEN_PREFIX, strlen(GT_TOKEN_PREFIX)) == 0) {
        snprintf(ret, cap, "%s", word);
        return 0;
    }
    int r = open_text(word, &fd, ret_why);
    if (r)
        return r;
    return read_text(fd, ret, cap) ? 0 : fail(ret_why, "not a token");
}

static char *trim(char *text)
{
    size_t n = strlen(text);

    while (n > 0 && strchr(" \t\r\n", text[n - 1]))
        text[--n] = 0;
    return text + strspn(text, " \t\r\n");
}

int gt_newcomer_read_token(const char *word, enum gt_token_kind kind, struct gt_token *ret,
                           char ret_why[static GT_NEWCOMER_WHY])
{
    char text[GT_TOKEN_TEXT_MAX + 64] = "", why[GT_TOKEN_WHY];
    struct gt_token token = {0};

    int r = read_word(word, text, sizeof(text), ret_why);
    if (r == 0 && gt_token_parse(trim(text), &token, why) != 0)
        r = fail(ret_why, "%s", why);
    gt_wipe(text, sizeof(text));
    if (r == 0 && token.kind != kind)
        r = fail(ret_why, "this token is for a new %s, not for a new %s",
                 gt_token_kind_text(token.kind), gt_token_kind_text(kind));
    if (r == 0)
        *ret = token;
    gt_token_wipe(&token);
    return r;
}

void gt_newcomer_hide_token(const char *word)
{
    size_t n_prefix = strlen(GT_TOKEN_PREFIX);

    if (word && strncmp(word, GT_TOKEN_PREFIX, n_prefix) == 0)
        memset((char *)(uintptr_t)word + n_prefix, '*', strlen(word) - n_prefix);
}

/* --- events ----------------------------------------------------------------------------------- */

static void on_retry(void *userdata, const char *why)
{
    struct run *run = userdata;

    if (strncmp(why, run->last_why, sizeof(run->last_why) - 1) == 0)
        return;
    snprintf(run->last_why, sizeof(run->last_why), "%s", why);
    gt_newcomer_print_error(run->command->program,
                            "the relay %s:%u cannot be reached: %s; trying again",
                            run->command->token->relay_host, run->command->token->relay_port, why);
}

static void on_waiting(void *userdata)
{
    struct run *run = userdata;

    if (!run->has_waited)
        dprintf(STDOUT_FILENO, "Waiting at %s:%u for the operator's command.\n",
                run->command->token->relay_host, run->command->token->relay_port);
    run->has_waited = true;
}

static void on_requested(void *userdata)
{
    dprintf(STDOUT_FILENO, "The operator's command has the request; waiting for its answer.\n");
}

static bool on_bundle(void *userdata, const struct gt_bundle *bundle, char *ret_why)
{
    struct run *run = userdata;
    char *pem = NULL;
    size_t n = 0;
    int r = gt_certificate_key_format(run->key, &pem, &n);
    bool is_installed = false;

    if (r)
        snprintf(ret_why, GT_ENROLMENT_TEXT_MAX, "%s", strerror(-r));
    else
        is_installed =
            run->command->on_bundle(run->command->userdata, bundle, gt_span(pem, n), ret_why);
    if (pem)
        gt_wipe(pem, n);
    free(pem);
    return is_installed;
}

static void on_end(void *userdata, enum gt_newcomer_end end, const char *why)
{
    struct run *run = userdata;

    run->status = gt_newcomer_exit_status(end);
    if (end != GT_NEWCOMER_INSTALLED)
        gt_newcomer_print_error(run->command->program, "%s%s%s", gt_newcomer_end_text(end),
                                *why ? ": " : "", why);
    ev_break(run->loop, EVBREAK_ALL);
}

/* --- the run ---------------------------------------------------------------------------------- */

static int print_fingerprint(const struct run *run)
{
    char text[GT_ENROLMENT_FINGERPRINT_TEXT];
    uint8_t fingerprint[GT_KEY_SIZE];
    int r = gt_certificate_key_fingerprint(run->key, fingerprint);

    if (r)
        return r;
    gt_enrolment_format_fingerprint(fingerprint, text);
    dprintf(STDOUT_FILENO,
            "Fingerprint of this machine's new key, which the operator has to see as well:\n"
            "  %s\n",
            text);
    return 0;
}

static int start(struct run *run)
{
    static const struct gt_newcomer_events events = {
        .on_retry = on_retry,
        .on_waiting = on_waiting,
        .on_requested = on_requested,
        .on_bundle = on_bundle,
        .on_end = on_end,
    };
    const struct gt_newcomer_command *command = run->command;
    const struct gt_newcomer_settings settings = {
        .token = command->token,
        .key = run->key,
        .host_keys = command->host_keys,
        .n_host_keys = command->n_host_keys,
        .proxy = command->proxy,
        .is_single_port = command->is_single_port,
        .deadline_ms = gt_newcomer_time_left(command->token, time(NULL)),
    };

    return gt_newcomer_new(run->loop, &settings, &events, run, &run->newcomer);
}

enum gt_exit_status gt_newcomer_run(const struct gt_newcomer_command *command)
{
    struct run run = {
        .command = command, .loop = ev_default_loop(EVFLAG_AUTO), .status = GT_EXIT_INTERNAL};

    signal(SIGPIPE, SIG_IGN);
    int r = run.loop ? gt_certificate_key_new(&run.key) : -ENOMEM;
    if (r == 0)
        r = print_fingerprint(&run);
    if (r == 0)
        r = start(&run);
    if (r == 0)
        ev_run(run.loop, 0);
    else
        gt_newcomer_print_error(command->program, "%s",
                                r < 0 ? strerror(-r) : "the token is damaged");
    gt_newcomer_free(run.newcomer);
    gt_certificate_key_free(run.key);
    return run.status;
}
