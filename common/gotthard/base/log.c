/* SPDX-License-Identifier: ISC */
/*
 * One line of text to fd 2, from any thread. A service must outlive whoever reads its log, so a
 * reader that stopped, a closed pipe, a full disk cost lines and nothing else: no write here can
 * block, and none raises SIGPIPE, whatever the program did with that signal. O_NONBLOCK is never
 * set on fd 2 itself: it belongs to the open file description, which the terminal's other
 * programs share.
 */
#include "gotthard/log.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

#define LINE_MAX_BYTES 1024 /* well below PIPE_BUF: a line goes into a pipe whole or not at all */

static struct {
    const char *_Atomic program;
    _Atomic enum gt_log_level level;
    atomic_bool is_journal;
    atomic_uint n_lost;      /* lines that standard error did not take */
    atomic_bool is_mid_line; /* the last one was taken in part */
} log_state = {.program = "gotthard", .level = GT_LOG_INFO};

static const struct {
    const char *word;
    char journal; /* sd-daemon(3) */
} levels[] = {
    [GT_LOG_DEBUG] = {"debug", '7'},
    [GT_LOG_INFO] = {"info", '6'},
    [GT_LOG_WARN] = {"warn", '4'},
    [GT_LOG_ERROR] = {"error", '3'},
};

/* $JOURNAL_STREAM is "device:inode" of the stream that a service was given; a service whose
 * output was then sent elsewhere still has the variable. */
static bool is_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    struct stat st;
    char mine[64];
    if (!stream || fstat(STDERR_FILENO, &st) < 0)
        return false;
    snprintf(mine, sizeof(mine), "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
    return strcmp(stream, mine) == 0;
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
        if (strcmp(text, levels[i].word) != 0)
            continue;
        *ret_level = (enum gt_log_level)i;
        return 0;
    }
    return 1;
}

/* write(2), but a closed pipe gives -EPIPE and nothing more. */
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

/* A pipe or terminal: through an own, non-blocking description of it where /proc gives one. */
static ssize_t write_to_stream(const char *line, size_t n)
{
    gt_cleanup(gt_close) int own =
        open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (own >= 0)
        return write_quietly(own, line, n);
    if (errno == ENXIO)
        return -1; /* a pipe without a reader */
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

/* Ends what a cut line left, then writes @n bytes. Whole, or counted as lost. */
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

/* What stands before the words of each line. */
static size_t format_head(enum gt_log_level level, char *ret, size_t cap)
{
    if (log_state.is_journal)
        return (size_t)snprintf(ret, cap, "<%c>", levels[level].journal);
    struct timespec now;
    struct tm utc;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    size_t n = strftime(ret, cap, "%Y-%m-%dT%H:%M:%S", &utc);
    int n_more = snprintf(ret + n, cap - n, ".%03ldZ %s %.32s: ", now.tv_nsec / 1000000,
                          levels[level].word, log_state.program);
    return n + (size_t)n_more;
}

void gt_log_clean(char *text)
{
    for (; *text; text++) {
        if (*text < 0x20 || *text > 0x7e)
            *text = '?';
    }
}

static void put_words(enum gt_log_level level, const char *words, const char *error)
{
    char line[LINE_MAX_BYTES];
    size_t n = format_head(level, line, 128);
    int n_more = snprintf(line + n, sizeof(line) - n - 1, "%s%s%s", words, error ? ": " : "",
                          error ? error : "");
    n = GT_MIN(n + (size_t)n_more, sizeof(line) - 2);
    gt_log_clean(line);
    line[n++] = '\n';
    if (!put_line(line, n))
        log_state.n_lost++;
}

static void put_loss(void)
{
    unsigned n_lost = atomic_exchange(&log_state.n_lost, 0);
    char words[64];
    if (!n_lost)
        return;
    snprintf(words, sizeof(words), "log lost=%u", n_lost);
    put_words(GT_LOG_WARN, words, NULL);
    if (log_state.n_lost) /* still stuck: that line's own loss is not one */
        log_state.n_lost += n_lost - 1;
}

void gt_log(enum gt_log_level level, int err, const char *fmt, ...)
{
    if (level < log_state.level)
        return;
    int saved = errno;
    char words[LINE_MAX_BYTES], error[128];
    va_list args;
    va_start(args, fmt);
    vsnprintf(words, sizeof(words), fmt, args);
    va_end(args);
    put_loss();
    put_words(level, words, err ? strerror_r(abs(err), error, sizeof(error)) : NULL);
    errno = saved;
}

static bool rate_allows(struct gt_log_rate *rate, unsigned burst, unsigned *ret_left_out)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (rate->second != (uint64_t)now.tv_sec) {
        rate->second = (uint64_t)now.tv_sec;
        rate->n_logged = 0;
    }
    if (rate->n_logged >= burst) {
        rate->n_left_out++;
        return false;
    }
    rate->n_logged++;
    *ret_left_out = rate->n_left_out;
    rate->n_left_out = 0;
    return true;
}

bool gt_log_is_allowed(struct gt_log_rate *rate, unsigned burst, unsigned *ret_left_out)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* one for all: held for an instant */
    pthread_mutex_lock(&lock);
    bool is_allowed = rate_allows(rate, burst, ret_left_out);
    pthread_mutex_unlock(&lock);
    return is_allowed;
}
