/* SPDX-License-Identifier: ISC */
/*
 * log.c with every kind of bad reader at fd 2. Each test takes fd 2 away, logs, gives it back, and
 * only then judges, so that cmocka's own words are never lost.
 */
#include "gotthard/log.h"

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
#include <time.h>

#include <cmocka.h>

#define HEAD "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3}Z "

static int stderr_before = -1;

static void stderr_take(int fd)
{
    stderr_before = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 10);
    assert_true(stderr_before >= 0);
    assert_int_equal(dup2(fd, STDERR_FILENO), STDERR_FILENO);
}

static void stderr_give_back(void)
{
    dup2(stderr_before, STDERR_FILENO);
    gt_close(&stderr_before);
}

/* A pipe whose reading end does not block. */
static void make_pipe(int ret[2])
{
    assert_int_equal(pipe2(ret, O_CLOEXEC), 0);
    assert_int_equal(fcntl(ret[0], F_SETFL, O_NONBLOCK), 0);
}

/* All that is in @fd now, terminated. */
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
        print_message("not as it should be: %s\n", text);
    return is_match;
}

static double now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

static void line_has_its_form(void **state)
{
    int fds[2];
    char text[4096], evil[] = "a\nb\x1b[2J\r\t\x7f\xc3\xa4z";
    make_pipe(fds);
    stderr_take(fds[1]);
    gt_log_open("test-log", GT_LOG_INFO);
    gt_debug("not shown");
    errno = EEXIST;
    gt_info("session=%s port=%d", "7f3a", 7001);
    int kept = errno;
    gt_warn_errno(-ECONNREFUSED, "dial");
    gt_error_errno(ENOENT, "file=%s", evil);
    stderr_give_back();
    drain(fds[0], text, sizeof(text));
    char *first = strtok(text, "\n"), *second = strtok(NULL, "\n"), *third = strtok(NULL, "\n");
    assert_non_null(third);
    assert_true(matches(first, HEAD "info test-log: session=7f3a port=7001$"));
    assert_true(matches(second, HEAD "warn test-log: dial: Connection refused$"));
    assert_true(
        matches(third, HEAD
                "error test-log: file=a\\?b\\?\\[2J\\?\\?\\?\\?\\?z: No such file or directory$"));
    assert_null(strtok(NULL, "\n"));
    assert_int_equal(kept, EEXIST);
    assert_int_equal(gt_log_level(), GT_LOG_INFO);
    close(fds[0]);
    close(fds[1]);
}

static void long_line_is_cut(void **state)
{
    static const size_t sizes[] = {0, 1, 900, 1022, 1023, 1024, 1025, 100000};
    static char words[100001], text[4096];
    for (size_t i = 0; i < GT_ARRAY_SIZE(sizes); i++) {
        int fds[2];
        memset(words, 'x', sizes[i]);
        words[sizes[i]] = 0;
        make_pipe(fds);
        stderr_take(fds[1]);
        gt_info("%s", words);
        gt_error_errno(ENOENT, "%s", words);
        stderr_give_back();
        size_t n = drain(fds[0], text, sizeof(text));
        assert_true(n > GT_MIN(sizes[i], 900u) && n <= 2048);
        assert_int_equal(text[n - 1], '\n');
        assert_non_null(strchr(text, '\n'));
        assert_ptr_equal(strchr(strchr(text, '\n') + 1, '\n'), text + n - 1);
        close(fds[0]);
        close(fds[1]);
    }
}

static void journal_gets_priorities(void **state)
{
    int fds[2];
    struct stat st;
    char stream[64], text[4096];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    assert_int_equal(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
    assert_int_equal(fstat(fds[1], &st), 0);
    snprintf(stream, sizeof(stream), "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
    setenv("JOURNAL_STREAM", stream, 1);
    stderr_take(fds[1]);
    gt_log_open("test-log", GT_LOG_DEBUG);
    gt_debug("d");
    gt_info("i");
    gt_warn("w");
    gt_error("e");
    stderr_give_back();
    drain(fds[0], text, sizeof(text));
    assert_string_equal(text, "<7>d\n<6>i\n<4>w\n<3>e\n");

    int elsewhere[2]; /* the variable is inherited, but standard error is not the journal */
    make_pipe(elsewhere);
    stderr_take(elsewhere[1]);
    gt_log_open("test-log", GT_LOG_INFO);
    gt_info("i");
    stderr_give_back();
    unsetenv("JOURNAL_STREAM");
    drain(elsewhere[0], text, sizeof(text));
    assert_true(matches(text, HEAD "info test-log: i\n$"));
    close(fds[0]);
    close(fds[1]);
    close(elsewhere[0]);
    close(elsewhere[1]);
}

/* Counts whole lines of ours and adds up what the log says was lost. */
static void count_lines(char *text, unsigned *n_lines, unsigned *n_lost)
{
    unsigned n;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        char *loss = strstr(line, "log lost=");
        assert_true(matches(line, HEAD));
        if (loss && sscanf(loss, "log lost=%u", &n) == 1)
            *n_lost += n;
        else if (strstr(line, "the end"))
            (*n_lines)++;
    }
}

/* A reader that has stopped: nothing waits, and all lines are accounted for when he goes on. */
static void stuck_reader_costs_lines(int fds[2], unsigned n_descriptors)
{
    enum { N_LINES = 5000 };
    static char text[1 << 20];
    unsigned n_lines = 0, n_lost = 0;
    int flags = fcntl(fds[1], F_GETFL);
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    stderr_take(fds[1]);
    setrlimit(RLIMIT_NOFILE, &(struct rlimit){n_descriptors, limit.rlim_max});
    gt_log_open("test-log", GT_LOG_INFO);
    double begun = now();
    for (unsigned i = 0; i < N_LINES; i++)
        gt_info("line %u of those that nobody reads, to the end", i);
    double lasted = now() - begun;
    setrlimit(RLIMIT_NOFILE, &limit);
    stderr_give_back();
    assert_true(lasted < 5);
    assert_int_equal(fcntl(fds[1], F_GETFL), flags);
    drain(fds[0], text, sizeof(text));
    count_lines(text, &n_lines, &n_lost);
    stderr_take(fds[1]);
    gt_info("one more, to the end");
    stderr_give_back();
    drain(fds[0], text, sizeof(text));
    count_lines(text, &n_lines, &n_lost);
    print_message("read %u, lost %u\n", n_lines, n_lost);
    assert_int_equal(n_lines + n_lost, N_LINES + 1);
    assert_true(n_lost > 0);
    close(fds[0]);
    close(fds[1]);
}

static void stuck_pipe(void **state)
{
    int fds[2];
    make_pipe(fds);
    stuck_reader_costs_lines(fds, 1024);
}

/* The same when a pipe cannot be opened anew, as it is also where /proc is not mounted. */
static void stuck_pipe_and_no_descriptor(void **state)
{
    int fds[2];
    make_pipe(fds);
    stuck_reader_costs_lines(fds, 3);
}

/* A line may be cut here: then it counts as lost, and what is left of it ends with a newline. */
static void stuck_socket(void **state)
{
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    assert_int_equal(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
    stuck_reader_costs_lines(fds, 1024);
}

/* None of these may kill, SIGPIPE being what it is by default. */
static void nobody_at_the_other_end(void **state)
{
    int fds[2], full = open("/dev/full", O_WRONLY | O_CLOEXEC);
    assert_true(full >= 0);
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    close(fds[0]);
    stderr_take(fds[1]);
    gt_info("to a closed pipe");
    stderr_give_back();
    close(fds[1]);

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    close(fds[0]);
    stderr_take(fds[1]);
    gt_info("to a closed socket");
    stderr_give_back();
    close(fds[1]);

    stderr_take(full);
    gt_info("to a full disk");
    close(STDERR_FILENO);
    gt_info("to nothing at all");
    gt_log_open("test-log", GT_LOG_INFO);
    stderr_give_back();
    close(full);

    sigset_t pending;
    sigpending(&pending);
    assert_false(sigismember(&pending, SIGPIPE));
}

static void file_is_appended_to(void **state)
{
    char path[] = "/tmp/test-log.XXXXXX", text[4096];
    int fd = mkostemp(path, O_APPEND | O_CLOEXEC);
    assert_true(fd >= 0);
    unlink(path);
    stderr_take(fd);
    gt_log_open("test-log", GT_LOG_INFO);
    gt_info("first, the end");
    gt_info("second, the end");
    stderr_give_back();
    lseek(fd, 0, SEEK_SET);
    drain(fd, text, sizeof(text));
    assert_non_null(strstr(text, "first, the end\n"));
    assert_non_null(strstr(text, "second, the end\n"));
    close(fd);
}

static void *chatter(void *arg)
{
    for (unsigned i = 0; i < 100; i++)
        gt_info("thread %p line %u, the end", arg, i);
    return NULL;
}

static void threads_do_not_mix(void **state)
{
    enum { N_THREADS = 4 };
    pthread_t threads[N_THREADS];
    static char text[1 << 20];
    unsigned n_lines = 0, n_lost = 0;
    int fds[2];
    make_pipe(fds);
    stderr_take(fds[1]);
    gt_log_open("test-log", GT_LOG_INFO);
    for (unsigned i = 0; i < N_THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, chatter, &fds[i % 2]), 0);
    for (unsigned i = 0; i < N_THREADS; i++)
        pthread_join(threads[i], NULL);
    stderr_give_back();
    drain(fds[0], text, sizeof(text));
    count_lines(text, &n_lines, &n_lost);
    assert_int_equal(n_lines, N_THREADS * 100);
    close(fds[0]);
    close(fds[1]);
}

static void levels_have_names(void **state)
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

/* The second may turn at any moment; then the burst begins anew, which a retry sees through. */
static void rate_is_limited(void **state)
{
    struct gt_log_rate rate = {0};
    unsigned n_allowed, n_left_out;
    do {
        rate = (struct gt_log_rate){0};
        n_allowed = 0;
        assert_true(gt_log_is_allowed(&rate, 10, &n_left_out));
        uint64_t second = rate.second;
        for (unsigned i = 0; i < 99; i++)
            n_allowed += gt_log_is_allowed(&rate, 10, &n_left_out);
        if (rate.second == second)
            break;
    } while (true);
    assert_int_equal(n_allowed, 9);
    assert_int_equal(rate.n_left_out, 90);
    rate.second -= 1; /* as if it had been a second ago */
    assert_true(gt_log_is_allowed(&rate, 10, &n_left_out));
    assert_int_equal(n_left_out, 90);
    assert_true(gt_log_is_allowed(&rate, 10, &n_left_out));
    assert_int_equal(n_left_out, 0);
    assert_false(gt_log_is_allowed(&rate, 0, &n_left_out));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(line_has_its_form),
        cmocka_unit_test(long_line_is_cut),
        cmocka_unit_test(journal_gets_priorities),
        cmocka_unit_test(stuck_pipe),
        cmocka_unit_test(stuck_pipe_and_no_descriptor),
        cmocka_unit_test(stuck_socket),
        cmocka_unit_test(nobody_at_the_other_end),
        cmocka_unit_test(file_is_appended_to),
        cmocka_unit_test(threads_do_not_mix),
        cmocka_unit_test(levels_have_names),
        cmocka_unit_test(rate_is_limited),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
