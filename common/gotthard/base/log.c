/* SPDX-License-Identifier: ISC */
/*
 * Log lines to fd 2, from any thread. A service must survive the reader of its log. A stopped
 * reader, a closed pipe or a full disk only costs lines: no write blocks, and none raises SIGPIPE,
 * independent of the program's disposition of that signal. O_NONBLOCK is never set on fd 2 itself,
 * because it belongs to the open file description, which other programs on the terminal share.
 */
#include "gotthard/base/log.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

#include "gotthard/base/clock.h"
#include "gotthard/base/format.h"

#define LINE_MAX_BYTES 1536 /* less than PIPE_BUF: a write to a pipe is atomic (pipe(7)) */
#define TEXT_MAX_BYTES 1372 /* with a prefix, an error and a newline it fits into a line */

static struct {
    const char *_Atomic program;
    _Atomic enum gt_log_level level;
    atomic_bool is_journal;
    atomic_uint n_lost;      /* lines that were dropped */
    atomic_bool is_mid_line; /* the last line was written in part */
    atomic_int kept;         /* gt_log_keep_stream(); -1: none */
} log_state = {.program = "gotthard", .level = GT_LOG_INFO, .kept = -1};

static const struct {
    const char *name;
    char journal; /* sd-daemon(3) */
} levels[] = {
    [GT_LOG_DEBUG] = {"debug", '7'},
    [GT_LOG_INFO] = {"info", '6'},
    [GT_LOG_WARN] = {"warn", '4'},
    [GT_LOG_ERROR] = {"error", '3'},
};

/* $JOURNAL_STREAM is "device:inode" of the stream that systemd passed. A service whose output was
 * redirected afterwards still has the variable. */
static bool is_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    struct stat st;
    char own[64];

    if (!stream || fstat(STDERR_FILENO, &st) < 0)
        return false;
    snprintf(own, sizeof(own), "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
    return strcmp(stream, own) == 0;
}

void gt_log_open(const char *program, enum gt_log_level level)
{
    log_state.program = program;
    log_state.level = level;
    log_state.is_journal = is_journal();
}

enum gt_log_level gt_log_level(void)
{
    return log_state.level;
}

int gt_log_parse_level(const char *text, enum gt_log_level *ret_level)
{
    for (size_t i = 0; i < GT_ARRAY_SIZE(levels); i++) {
        if (strcmp(text, levels[i].name) != 0)
            continue;
        *ret_level = (enum gt_log_level)i;
        return 0;
    }
    return 1;
}

/* As write(2), but a closed pipe only returns an error, without SIGPIPE. */
static ssize_t write_quietly(int fd, const char *line, size_t n)
{
    sigset_t pipe_only, before, pending;

    sigemptyset(&pipe_only);
    sigaddset(&pipe_only, SIGPIPE);
    sigpending(&pending);
    pthread_sigmask(SIG_BLOCK, &pipe_only, &before);
    ssize_t n_written = write(fd, line, n);
    if (n_written < 0 && errno == EPIPE && !sigismember(&pending, SIGPIPE))
        sigtimedwait(&pipe_only, NULL, &(struct timespec){0, 0});
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return n_written;
}

static int open_stream(void)
{
    return open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

void gt_log_keep_stream(void)
{
    struct stat st;

    if (fstat(STDERR_FILENO, &st) == 0 && (S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode)))
        log_state.kept = open_stream();
}

/* Writes to a pipe or terminal, if possible through a non-blocking description of our own. */
static ssize_t write_to_stream(const char *line, size_t n)
{
    if (log_state.kept >= 0)
        return write_quietly(log_state.kept, line, n);
    gt_cleanup(gt_close) int own = open_stream();
    if (own >= 0)
        return write_quietly(own, line, n);
    if (errno == ENXIO)
        return -1; /* the pipe has no reader */
    struct pollfd writable = {.fd = STDERR_FILENO, .events = POLLOUT};
    if (poll(&writable, 1, 0) != 1 || writable.revents != POLLOUT)
        return -1;
    return write_quietly(STDERR_FILENO, line, n);
}

static ssize_t write_line(const char *line, size_t n)
{
    struct stat st;

    if (fstat(STDERR_FILENO, &st) < 0)
        return -1;
    if (S_ISSOCK(st.st_mode))
        return send(STDERR_FILENO, line, n, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (S_ISREG(st.st_mode))
        return write(STDERR_FILENO, line, n);
    return write_to_stream(line, n);
}

/* Terminates a partial line, then writes @n bytes. Returns false if they were not all written. */
static bool put_line(const char *line, size_t n)
{
    if (log_state.is_mid_line) {
        if (write_line("\n", 1) != 1)
            return false;
        log_state.is_mid_line = false;
    }
    ssize_t n_written = write_line(line, n);
    if (n_written > 0 && (size_t)n_written < n)
        log_state.is_mid_line = true;
    return n_written == (ssize_t)n;
}

/* Writes the priority, or time, level and program. Returns the length. */
static size_t format_prefix(enum gt_log_level level, char *ret, size_t cap)
{
    if (log_state.is_journal)
        return (size_t)snprintf(ret, cap, "<%c>", levels[level].journal);
    struct timespec now;
    struct tm utc;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    size_t n = strftime(ret, cap, "%Y-%m-%dT%H:%M:%S", &utc);
    int n_more = snprintf(ret + n, cap - n, ".%03ldZ %s %.32s: ", now.tv_nsec / 1000000,
                          levels[level].name, log_state.program);
    return n + (size_t)n_more;
}

static void put_text(enum gt_log_level level, const char *text, const char *error)
{
    char line[LINE_MAX_BYTES];
    size_t n = format_prefix(level, line, 128);
    int n_more = snprintf(line + n, sizeof(line) - n - 1, "%s%s%s", text, error ? ": " : "",
                          error ? error : "");

    n = GT_MIN(n + (size_t)n_more, sizeof(line) - 2);
    line[n++] = '\n';
    if (!put_line(line, n))
        log_state.n_lost++;
}

static void put_n_lost(void)
{
    unsigned n_lost = atomic_exchange(&log_state.n_lost, 0);
    char text[64];

    if (!n_lost)
        return;
    snprintf(text, sizeof(text), "log dropped lines=%u", n_lost);
    put_text(GT_LOG_WARN, text, NULL);
    if (log_state.n_lost) /* also dropped: do not count this line itself */
        log_state.n_lost += n_lost - 1;
}

void gt_vlog(enum gt_log_level level, int err, const char *fmt, va_list args)
{
    if (level < log_state.level)
        return;
    int saved = errno;
    char text[TEXT_MAX_BYTES];
    gt_vformat(GT_FORMAT_LOG, text, sizeof(text), fmt, args);
    put_n_lost();
    put_text(level, text, err ? strerror(abs(err)) : NULL);
    errno = saved;
}

void gt_log(enum gt_log_level level, int err, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    gt_vlog(level, err, fmt, args);
    va_end(args);
}

static bool rate_allows(struct gt_log_rate *rate, unsigned burst, unsigned *ret_n_suppressed)
{
    uint64_t second = gt_clock_ms() / 1000;

    if (rate->second != second) {
        rate->second = second;
        rate->n_logged = 0;
    }
    if (rate->n_logged >= burst) {
        rate->n_suppressed++;
        return false;
    }
    rate->n_logged++;
    *ret_n_suppressed = rate->n_suppressed;
    rate->n_suppressed = 0;
    return true;
}

bool gt_log_is_allowed(struct gt_log_rate *rate, unsigned burst, unsigned *ret_n_suppressed)
{
    static pthread_mutex_t lock =
        PTHREAD_MUTEX_INITIALIZER; /* shared by all causes: held very briefly */

    pthread_mutex_lock(&lock);
    bool is_allowed = rate_allows(rate, burst, ret_n_suppressed);
    pthread_mutex_unlock(&lock);
    return is_allowed;
}
