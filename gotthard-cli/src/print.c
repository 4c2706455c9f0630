/* SPDX-License-Identifier: ISC */
/*
 * The three forms of output. Plain lines are log lines, so that `gotthard-cli connect` as a service
 * logs like every other service. While a tunnel runs, output must not wait for its reader (a
 * terminal stopped by Ctrl+S, a full pipe). Only print_data(), print_bytes() and print_json()
 * block, for commands whose purpose is their output.
 */
#include "print.h"

#include <langinfo.h>
#include <locale.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "gotthard/base/format.h"
#include "gotthard/base/log.h"
#include "gotthard/base/text.h"
#include "print-wait.h"
#include "print-width.h"

#define LINE_MAX_SIZE 4096 /* at most PIPE_BUF: one write to a writable pipe is complete */

#define RED     "\033[31m"
#define GREEN   "\033[32m"
#define YELLOW  "\033[33m"
#define RESET   "\033[0m"
#define RESTART "\r\033[K"

static bool is_set(const char *variable)
{
    const char *value = getenv(variable);

    return value && *value;
}

void print_init(struct print *print, const struct print_options *options)
{
    setlocale(LC_CTYPE, "");
    const char *terminal = getenv("TERM");
    bool is_dumb = !terminal || !*terminal || strcmp(terminal, "dumb") == 0;
    *print = (struct print){
        .style = isatty(STDERR_FILENO) ? PRINT_HUMAN : PRINT_LINES,
        .is_json = options->is_json,
        .is_quiet = options->is_quiet || options->is_json,
        .has_color = !options->is_plain_color && !is_set("NO_COLOR") && !is_dumb,
        .has_marks = !is_dumb && strcmp(nl_langinfo(CODESET), "UTF-8") == 0,
    };
}

/* Writes if that is possible without waiting. Returns false if the text was not written whole; a
 * short write is not repeated. */
static bool write_now(int fd, const char *text, size_t n)
{
    struct pollfd writable = {.fd = fd, .events = POLLOUT};

    if (poll(&writable, 1, 0) == 1 && !(writable.revents & POLLOUT))
        return true; /* the reader has closed it: nothing is lost */
    return (writable.revents & POLLOUT) && write(fd, text, n) == (ssize_t)n;
}

/* Writes nothing unless lines have the time of day. */
static void format_clock(const struct print *print, char *ret, size_t cap)
{
    time_t now = time(NULL);
    struct tm local;

    *ret = 0;
    if (print->has_clock && localtime_r(&now, &local))
        strftime(ret, cap, "%H:%M:%S ", &local);
}

/* A line for people: clock, mark and text, wrapped to the terminal. The mark has the color, and a
 * blank at its end. */
GT_PRINTF(4, 0)
static void write_line(struct print *print, const char *color, const char *mark, const char *fmt,
                       va_list args)
{
    char text[LINE_MAX_SIZE / 2], whole[LINE_MAX_SIZE * 3 / 4], line[LINE_MAX_SIZE], clock[16];
    size_t n_mark = *mark && print->has_color ? strlen(mark) - 1 : 0;

    format_clock(print, clock, sizeof(clock));
    gt_vformat(GT_FORMAT_TEXT, text, sizeof(text), fmt, args);
    snprintf(whole, sizeof(whole), "%s%s%s", clock, mark, text);
    print_wrap(whole, print_terminal_width(STDERR_FILENO), text, sizeof(text));
    const char *at = text + strlen(clock);
    int n = snprintf(line, sizeof(line), "%s%s%s%.*s%s%s\n", print->has_progress ? RESTART : "",
                     clock, n_mark ? color : "", (int)n_mark, at, n_mark ? RESET : "", at + n_mark);
    write_now(STDERR_FILENO, line, GT_MIN((size_t)n, sizeof(line) - 1));
    print->has_progress = false;
}

static bool has_no_notes(const struct print *print)
{
    return print->is_quiet || print->is_terse;
}

void print_done(struct print *print, const char *fmt, ...)
{
    if (print->style != PRINT_HUMAN || has_no_notes(print))
        return;
    va_list args;
    va_start(args, fmt);
    write_line(print, GREEN, print->has_marks ? "✓ " : "ok: ", fmt, args);
    va_end(args);
}

void print_plain(struct print *print, const char *fmt, ...)
{
    if (print->style != PRINT_HUMAN || has_no_notes(print))
        return;
    char text[LINE_MAX_SIZE / 2], line[LINE_MAX_SIZE];
    va_list args;
    va_start(args, fmt);
    gt_vformat(GT_FORMAT_TEXT, text, sizeof(text), fmt, args);
    va_end(args);
    int n = snprintf(line, sizeof(line), "%s%s\n", print->has_progress ? RESTART : "", text);
    write_now(STDERR_FILENO, line, GT_MIN((size_t)n, sizeof(line) - 1));
    print->has_progress = false;
}

void print_progress(struct print *print, const char *fmt, ...)
{
    if (print->style != PRINT_HUMAN || has_no_notes(print) || !print->has_color)
        return; /* it cannot be overwritten without escape sequences */
    unsigned width = print_terminal_width(STDERR_FILENO);
    char text[LINE_MAX_SIZE / 2], row[LINE_MAX_SIZE / 2 + 8], line[LINE_MAX_SIZE];
    va_list args;
    va_start(args, fmt);
    gt_vformat(GT_FORMAT_TEXT, text, sizeof(text), fmt, args);
    va_end(args);
    snprintf(row, sizeof(row), "%s%s", print->has_marks ? "… " : "... ", text);
    print_shorten(row, width > 0 ? width - 1 : 0); /* the last column may wrap the cursor */
    int n = snprintf(line, sizeof(line), "%s%s", print->has_progress ? RESTART : "", row);
    write_now(STDERR_FILENO, line, GT_MIN((size_t)n, sizeof(line) - 1));
    print->has_progress = true;
}

void print_clear_progress(struct print *print)
{
    if (print->has_progress)
        write_now(STDERR_FILENO, RESTART, strlen(RESTART));
    print->has_progress = false;
}

void print_fact(struct print *print, const char *fmt, ...)
{
    if (print->style != PRINT_LINES || has_no_notes(print))
        return;
    va_list args;
    va_start(args, fmt);
    gt_vlog(GT_LOG_INFO, 0, fmt, args);
    va_end(args);
}

void print_note(struct print *print, const char *fmt, ...)
{
    if (has_no_notes(print))
        return;
    va_list args;
    va_start(args, fmt);
    if (print->style == PRINT_HUMAN)
        write_line(print, "", "", fmt, args);
    else
        gt_vlog(GT_LOG_INFO, 0, fmt, args);
    va_end(args);
}

GT_PRINTF(2, 0)
static void pass_warning(const struct print *print, const char *fmt, va_list args)
{
    char text[LINE_MAX_SIZE / 2];

    gt_vformat(GT_FORMAT_TEXT, text, sizeof(text), fmt, args);
    print->on_warning(print->userdata, text);
}

void print_warning(struct print *print, const char *fmt, ...)
{
    if (print->is_quiet && !print->is_json && !print->on_warning)
        return;
    va_list args;
    va_start(args, fmt);
    if (print->on_warning)
        pass_warning(print, fmt, args);
    else if (print->style == PRINT_HUMAN)
        write_line(print, YELLOW, print->has_marks ? "! " : "warning: ", fmt, args);
    else
        gt_vlog(GT_LOG_WARN, 0, fmt, args);
    va_end(args);
}

void print_log_line(struct print *print, const char *line)
{
    char text[LINE_MAX_SIZE];

    if (print->is_quiet)
        return;
    size_t n = gt_format(GT_FORMAT_TEXT, text, sizeof(text) - 1, "%s", line);
    n = GT_MIN(n, sizeof(text) - 2);
    text[n] = '\n';
    print_clear_progress(print);
    (void)write_now(STDERR_FILENO, text, n + 1);
}

GT_PRINTF(2, 3)
static void write_error(struct print *print, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    write_line(print, RED, print->has_marks ? "✗ " : "error: ", fmt, args);
    va_end(args);
}

int print_failure(struct print *print, const struct failure *failure)
{
    if (print->style == PRINT_HUMAN)
        write_error(print, "%s\n  %s  [GTD-E%d]", failure->message, failure->hint, failure->id);
    else
        gt_error("[GTD-E%d] %s; %s", failure->id, failure->message, failure->hint);
    return print_failure_event(print, failure->id, failure->message, failure->hint);
}

int print_failure_event(struct print *print, enum failure_id id, const char *message,
                        const char *hint)
{
    int code = failure_exit(id);
    char text[16];

    snprintf(text, sizeof(text), "GTD-E%d", id);
    print_event(print, "error", "{s:s, s:s, s:s, s:i}", "id", text, "message", message, "hint",
                hint, "exit", code);
    return code;
}

static void format_timestamp(char *ret, size_t cap)
{
    struct timespec now;
    struct tm utc;

    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    size_t n = strftime(ret, cap, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(ret + n, cap - n, ".%03dZ", (int)(now.tv_nsec / 1000000));
}

static void write_event(struct print *print, json_t *event)
{
    gt_cleanup(gt_free) char *text = json_dumps(event, JSON_COMPACT | JSON_ENSURE_ASCII);
    size_t n = text ? strlen(text) : 0;

    if (n > 0)
        text[n] = '\n'; /* replaces the NUL: one write, one line */
    if (n == 0 || !write_now(STDOUT_FILENO, text, n + 1))
        print->n_events_lost++;
}

json_t *print_json_text(struct gt_span text)
{
    json_t *exact = json_stringn((const char *)text.data, text.n);

    if (exact)
        return exact;
    size_t cap = 4 * text.n + 1;
    gt_cleanup(gt_free) char *escaped = malloc(cap);
    return escaped ? json_string(gt_text_escape(text, escaped, cap)) : NULL;
}

/* Returns the value of a pair "s:T". NULL, as of "s:o*", is left out. */
static json_t *take_value(char type, va_list *args)
{
    switch (type) {
    case 's': return print_json_text(gt_span_text(va_arg(*args, const char *)));
    case 'i': return json_integer(va_arg(*args, int));
    case 'I': return json_integer(va_arg(*args, json_int_t));
    case 'b': return json_boolean(va_arg(*args, int));
    case 'f': return json_real(va_arg(*args, double));
    case 'o': return va_arg(*args, json_t *);
    case 'O': return json_incref(va_arg(*args, json_t *));
    default: return NULL;
    }
}

/* Releases the values of @args if @line is NULL. */
static void add_values(json_t *line, const char *fmt, va_list *args)
{
    for (const char *at = fmt; (at = strstr(at, "s:")); at += 2) {
        const char *key = va_arg(*args, const char *);

        json_object_set_new(line, key, take_value(at[2], args));
    }
}

/* The next event has the number of events that a full pipe did not take. */
void print_event(struct print *print, const char *event, const char *fmt, ...)
{
    json_t *line = NULL;
    char time[40];
    va_list args;

    format_timestamp(time, sizeof(time));
    if (print->is_json)
        line = json_pack("{s:s, s:s}", "time", time, "event", event);
    va_start(args, fmt);
    add_values(line, fmt, &args);
    va_end(args);
    if (!line)
        return;
    unsigned n_lost = print->n_events_lost;
    if (n_lost > 0)
        json_object_set_new(line, "events_lost", json_integer(n_lost));
    write_event(print, line);
    if (print->n_events_lost == n_lost)
        print->n_events_lost = 0;
    json_decref(line);
}

void print_bytes(struct print *print, const char *text, size_t n)
{
    if (print->stdout_errno == 0)
        print->stdout_errno = print_wait_write(STDOUT_FILENO, text, n);
}

void print_data(struct print *print, const char *fmt, ...)
{
    va_list args, again;

    va_start(args, fmt);
    va_copy(again, args);
    size_t n = gt_vformat(GT_FORMAT_TEXT, NULL, 0, fmt, args);
    gt_cleanup(gt_free) char *text = malloc(n + 1);
    if (text) {
        gt_vformat(GT_FORMAT_TEXT, text, n + 1, fmt, again);
        print_bytes(print, text, n);
    }
    va_end(again);
    va_end(args);
}

int print_page_begin(void)
{
    return memfd_create("page", MFD_CLOEXEC);
}

void print_page_end(struct print *print, int fd)
{
    char buf[4096];
    ssize_t n;

    if (fd < 0 || lseek(fd, 0, SEEK_SET) < 0)
        print->stdout_errno = errno;
    else
        while ((n = read(fd, buf, sizeof(buf))) > 0)
            print_bytes(print, buf, (size_t)n);
    gt_close(&fd);
}

void print_json_event(struct print *print, const char *event, json_t *takes)
{
    char time[40];

    format_timestamp(time, sizeof(time));
    json_t *line = print->is_json ? json_pack("{s:s, s:s}", "time", time, "event", event) : NULL;
    if (line) {
        json_object_update(line, takes);
        print_json(print, line);
    }
    json_decref(takes);
}

void print_json(struct print *print, json_t *takes)
{
    gt_cleanup(gt_free) char *text = json_dumps(takes, JSON_COMPACT | JSON_ENSURE_ASCII);

    json_decref(takes);
    if (text)
        print_data(print, "%s\n", text);
}
