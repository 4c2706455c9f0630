/* SPDX-License-Identifier: ISC */
/*
 * log.c with every kind of failing reader on fd 2. Each test replaces fd 2, logs, restores fd 2,
 * and checks the result only then, so that the output of cmocka is never lost.
 */
#include "gotthard/base/log.h"

#include <fcntl.h>
#include <pthread.h>
#include <regex.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include <cmocka.h>

#define HEAD "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3}Z "

static int stderr_before = -1;

static void stderr_replace(int fd)
{
    stderr_before = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 10);
    assert_true(stderr_before >= 0);
    assert_int_equal(dup2(fd, STDERR_FILENO), STDERR_FILENO);
}

static void stderr_restore(void)
{
    dup2(stderr_before, STDERR_FILENO);
    gt_close(&stderr_before);
}

/* Creates a pipe with a non-blocking reading end. */
static void make_pipe(int ret[2])
{
    assert_int_equal(pipe2(ret, O_CLOEXEC), 0);
    assert_int_equal(fcntl(ret[0], F_SETFL, O_NONBLOCK), 0);
}

/* Reads all available bytes from @fd and terminates them. */
static size_t drain(int fd, char *ret, size_t cap)
{
    size_t n = 0;

    for (ssize_t n_read; n < cap - 1 && (n_read = read(fd, ret + n, cap - 1 - n)) > 0;)
        n += (size_t)n_read;
    ret[n] = 0;
    return n;
}

static bool matches(const char *text, const char *pattern)
{
    regex_t regex;

    assert_int_equal(regcomp(&regex, pattern, REG_EXTENDED | REG_NOSUB), 0);
    bool is_match = regexec(&regex, text, 0, NULL, 0) == 0;
    regfree(&regex);
    if (!is_match)
        print_message("unexpected line: %s\n", text);
    return is_match;
}

static double now(void)
{
    struct timespec at;

    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

static void test_line_has_time_level_and_program(void **state)
{
    int fds[2];
    char text[4096], evil[] = "a\nb\x1b[2J\r\t\x7f\xc3\xa4z";

    make_pipe(fds);
    stderr_replace(fds[1]);
    gt_log_open("test-log", GT_LOG_INFO);
    gt_debug("not shown");
    errno = EEXIST;
    gt_info("session=%s port=%d", "7f3a", 7001);
    int kept = errno;
    gt_warn_errno(-ECONNREFUSED, "dial");
    gt_error_errno(ENOENT, "file=%s", evil);
    stderr_restore();
    drain(fds[0], text, sizeof(text));
    char *first = strtok(text, "\n"), *second = strtok(NULL, "\n"), *third = strtok(NULL, "\n");
    assert_non_null(third);
    assert_true(matches(first, HEAD "info test-log: session=7f3a port=7001$"));
    assert_true(matches(second, HEAD "warn test-log: dial: Connection refused$"));
    assert_true(matches(
        third, HEAD
        "error test-log: file=\"a\\\\x0ab\\\\x1b\\[2J\\\\x0d\\\\x09\\\\x7f\\\\xc3\\\\xa4z\": No such file or directory$"));
    assert_null(strtok(NULL, "\n"));
    assert_int_equal(kept, EEXIST);
    assert_int_equal(gt_log_level(), GT_LOG_INFO);
    close(fds[0]);
    close(fds[1]);
}

static void test_long_line_is_truncated(void **state)
{
    static const size_t sizes[] = {0,    1,    900,  1022, 1023, 1024,
                                   1025, 1534, 1535, 1536, 1537, 100000};
    static char words[100001], text[4096];

    for (size_t i = 0; i < GT_ARRAY_SIZE(sizes); i++) {
        int fds[2];

        memset(words, 'x', sizes[i]);
        words[sizes[i]] = 0;
        make_pipe(fds);
        stderr_replace(fds[1]);
        gt_info("%s", words);
        gt_error_errno(ENOENT, "%s", words);
        stderr_restore();
        size_t n = drain(fds[0], text, sizeof(text));
        assert_true(n > GT_MIN(sizes[i], 900u) && n <= 3072);
        assert_int_equal(text[n - 1], '\n');
        assert_non_null(strchr(text, '\n'));
        assert_ptr_equal(strchr(strchr(text, '\n') + 1, '\n'), text + n - 1);
        close(fds[0]);
        close(fds[1]);
    }
}

static void test_journal_lines_have_priorities(void **state)
{
    int fds[2];
    struct stat st;
    char stream[64], text[4096];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    assert_int_equal(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
    assert_int_equal(fstat(fds[1], &st), 0);
    snprintf(stream, sizeof(stream), "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
    setenv("JOURNAL_STREAM", stream, 1);
    stderr_replace(fds[1]);
    gt_log_open("test-log", GT_LOG_DEBUG);
    gt_debug("d");
    gt_info("i");
    gt_warn("w");
    gt_error("e");
    stderr_restore();
    drain(fds[0], text, sizeof(text));
    assert_string_equal(text, "<7>d\n<6>i\n<4>w\n<3>e\n");

    int elsewhere[2]; /* standard error was redirected, the variable is inherited */
    make_pipe(elsewhere);
    stderr_replace(elsewhere[1]);
    gt_log_open("test-log", GT_LOG_INFO);
    gt_info("i");
    stderr_restore();
    unsetenv("JOURNAL_STREAM");
    drain(elsewhere[0], text, sizeof(text));
    assert_true(matches(text, HEAD "info test-log: i\n$"));
    close(fds[0]);
    close(fds[1]);
    close(elsewhere[0]);
    close(elsewhere[1]);
}

/* Counts complete lines and adds up the reported numbers of lost ones. */
static void count_lines(char *text, unsigned *n_lines, unsigned *n_lost)
{
    unsigned n;

    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        char *loss = strstr(line, "log dropped lines=");

        assert_true(matches(line, HEAD));
        if (loss && sscanf(loss, "log dropped lines=%u", &n) == 1)
            *n_lost += n;
        else if (strstr(line, "the end"))
            (*n_lines)++;
    }
}

/* With a stopped reader, no call blocks. When the reader continues, all lines are accounted for. */
static void stuck_reader_costs_lines(int fds[2], unsigned n_descriptors)
{
    enum { N_LINES = 5000 };
    static char text[1 << 20];
    unsigned n_lines = 0, n_lost = 0;
    int flags = fcntl(fds[1], F_GETFL);
    struct rlimit limit;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    stderr_replace(fds[1]);
    setrlimit(RLIMIT_NOFILE, &(struct rlimit){n_descriptors, limit.rlim_max});
    gt_log_open("test-log", GT_LOG_INFO);
    double begun = now();
    for (unsigned i = 0; i < N_LINES; i++)
        gt_info("line %u of a stuck reader, to the end", i);
    double lasted = now() - begun;
    setrlimit(RLIMIT_NOFILE, &limit);
    stderr_restore();
    assert_true(lasted < 60); /* a call that blocks would not return */
    assert_int_equal(fcntl(fds[1], F_GETFL), flags);
    drain(fds[0], text, sizeof(text));
    count_lines(text, &n_lines, &n_lost);
    stderr_replace(fds[1]);
    gt_info("one more, to the end");
    stderr_restore();
    drain(fds[0], text, sizeof(text));
    count_lines(text, &n_lines, &n_lost);
    print_message("read %u, lost %u\n", n_lines, n_lost);
    assert_int_equal(n_lines + n_lost, N_LINES + 1);
    assert_true(n_lost > 0);
    close(fds[0]);
    close(fds[1]);
}

static void test_stuck_pipe_costs_lines_only(void **state)
{
    int fds[2];

    make_pipe(fds);
    stuck_reader_costs_lines(fds, 1024);
}

/* As above if the pipe cannot be opened again, as without a mounted /proc. */
static void test_stuck_pipe_without_descriptors_costs_lines_only(void **state)
{
    int fds[2];

    make_pipe(fds);
    stuck_reader_costs_lines(fds, 3);
}

/* In a child, because the stream is kept. */
static void test_kept_stream_is_used_without_opening_it_again(void **state)
{
    char text[4096];
    int fds[2], status;

    make_pipe(fds);
    pid_t pid = fork();
    if (pid == 0) {
        stderr_replace(fds[1]);
        gt_log_keep_stream();
        setrlimit(RLIMIT_NOFILE, &(struct rlimit){3, 3});
        gt_info("kept");
        bool is_shared = fcntl(STDERR_FILENO, F_GETFL) & O_NONBLOCK;
        for (unsigned i = 0; i < 5000;
             i++) /* none blocks, although the reader waits for the exit */
            gt_info("line %u", i);
        _exit(is_shared);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    drain(fds[0], text, sizeof(text));
    assert_non_null(strstr(text, "kept\n"));
    close(fds[0]);
    close(fds[1]);
}

/* A socket may accept part of a line, which counts as lost and is terminated by a newline. */
static void test_stuck_socket_costs_lines_only(void **state)
{
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    assert_int_equal(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
    stuck_reader_costs_lines(fds, 1024);
}

/* None of these may end the process, with the default action of SIGPIPE. */
static void test_log_survives_closed_readers(void **state)
{
    int fds[2], full = open("/dev/full", O_WRONLY | O_CLOEXEC);

    assert_true(full >= 0);
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    close(fds[0]);
    stderr_replace(fds[1]);
    gt_info("to a closed pipe");
    stderr_restore();
    close(fds[1]);

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    close(fds[0]);
    stderr_replace(fds[1]);
    gt_info("to a closed socket");
    stderr_restore();
    close(fds[1]);

    stderr_replace(full);
    gt_info("to a full disk");
    close(STDERR_FILENO);
    gt_info("to nothing at all");
    gt_log_open("test-log", GT_LOG_INFO);
    stderr_restore();
    close(full);

    sigset_t pending;
    sigpending(&pending);
    assert_false(sigismember(&pending, SIGPIPE));
}

static void test_log_appends_to_a_file(void **state)
{
    char path[] = "/tmp/test-log.XXXXXX", text[4096];
    int fd = mkostemp(path, O_APPEND | O_CLOEXEC);

    assert_true(fd >= 0);
    unlink(path);
    stderr_replace(fd);
    gt_log_open("test-log", GT_LOG_INFO);
    gt_info("first, the end");
    gt_info("second, the end");
    stderr_restore();
    lseek(fd, 0, SEEK_SET);
    drain(fd, text, sizeof(text));
    assert_non_null(strstr(text, "first, the end\n"));
    assert_non_null(strstr(text, "second, the end\n"));
    close(fd);
}

/* What four threads log fits into two pages: the pipe of a user with many others may have no more,
 * see pipe(7). */
#define N_THREAD_LINES 20

static void *log_lines(void *arg)
{
    for (unsigned i = 0; i < N_THREAD_LINES; i++)
        gt_info("thread %p line %u, the end", arg, i);
    return NULL;
}

static void test_lines_of_threads_do_not_mix(void **state)
{
    enum { N_THREADS = 4 };
    pthread_t threads[N_THREADS];
    static char text[1 << 20];
    unsigned n_lines = 0, n_lost = 0;
    int fds[2];

    make_pipe(fds);
    stderr_replace(fds[1]);
    gt_log_open("test-log", GT_LOG_INFO);
    for (unsigned i = 0; i < N_THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, log_lines, &fds[i % 2]), 0);
    for (unsigned i = 0; i < N_THREADS; i++)
        pthread_join(threads[i], NULL);
    stderr_restore();
    drain(fds[0], text, sizeof(text));
    count_lines(text, &n_lines, &n_lost);
    assert_int_equal(n_lines, N_THREADS * N_THREAD_LINES);
    close(fds[0]);
    close(fds[1]);
}

static void test_levels_have_names(void **state)
{
    enum gt_log_level level = GT_LOG_ERROR;

    assert_int_equal(gt_log_parse_level("debug", &level), 0);
    assert_int_equal(level, GT_LOG_DEBUG);
    assert_int_equal(gt_log_parse_level("warn", &level), 0);
    assert_int_equal(level, GT_LOG_WARN);
    assert_int_equal(gt_log_parse_level("WARN", &level), 1);
    assert_int_equal(gt_log_parse_level("", &level), 1);
    assert_int_equal(level, GT_LOG_WARN);
}

/* A new second may begin at any moment and restart the burst; the test then tries again. */
static void test_rate_limit_counts_suppressed_lines(void **state)
{
    struct gt_log_rate rate = {0};
    unsigned n_allowed, n_suppressed;

    do {
        rate = (struct gt_log_rate){0};
        n_allowed = 0;
        assert_true(gt_log_is_allowed(&rate, 10, &n_suppressed));
        uint64_t second = rate.second;
        for (unsigned i = 0; i < 99; i++)
            n_allowed += gt_log_is_allowed(&rate, 10, &n_suppressed);
        if (rate.second == second)
            break;
    } while (true);
    assert_int_equal(n_allowed, 9);
    assert_int_equal(rate.n_suppressed, 90);
    rate.second -= 1; /* as one second later */
    assert_true(gt_log_is_allowed(&rate, 10, &n_suppressed));
    assert_int_equal(n_suppressed, 90);
    assert_true(gt_log_is_allowed(&rate, 10, &n_suppressed));
    assert_int_equal(n_suppressed, 0);
    assert_false(gt_log_is_allowed(&rate, 0, &n_suppressed));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_line_has_time_level_and_program),
        cmocka_unit_test(test_long_line_is_truncated),
        cmocka_unit_test(test_journal_lines_have_priorities),
        cmocka_unit_test(test_stuck_pipe_costs_lines_only),
        cmocka_unit_test(test_stuck_pipe_without_descriptors_costs_lines_only),
        cmocka_unit_test(test_kept_stream_is_used_without_opening_it_again),
        cmocka_unit_test(test_stuck_socket_costs_lines_only),
        cmocka_unit_test(test_log_survives_closed_readers),
        cmocka_unit_test(test_log_appends_to_a_file),
        cmocka_unit_test(test_lines_of_threads_do_not_mix),
        cmocka_unit_test(test_levels_have_names),
        cmocka_unit_test(test_rate_limit_counts_suppressed_lines),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
