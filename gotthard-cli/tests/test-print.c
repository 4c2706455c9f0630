/* SPDX-License-Identifier: ISC */
/* print.c: standard error and output in each style, and output that must not wait. */
#include "print.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "gotthard/base/log.h"
#include "print-wait.h"

/* Standard output or error, replaced by a pipe for a while. */
struct capture {
    int fd, saved, reader;
};

static struct capture capture_begin(int fd)
{
    int ends[2];

    assert_int_equal(pipe(ends), 0);
    struct capture capture = {fd, dup(fd), ends[0]};
    assert_int_equal(dup2(ends[1], fd), fd);
    close(ends[1]);
    assert_int_equal(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
    return capture;
}

static void capture_end(struct capture *capture, char *ret, size_t cap)
{
    dup2(capture->saved, capture->fd);
    close(capture->saved);
    ssize_t n = read(capture->reader, ret, cap - 1);
    ret[n > 0 ? n : 0] = 0;
    close(capture->reader);
}

static void say_all(struct print *print, char *ret, size_t cap)
{
    struct failure failure;
    struct capture capture = capture_begin(STDERR_FILENO);

    gt_log_open("gotthard-cli", GT_LOG_INFO);
    print_progress(print, "progress");
    print_done(print, "done");
    print_plain(print, "plain");
    print_fact(print, "fact");
    print_note(print, "note");
    print_warning(print, "warning");
    failure_set(&failure, FAILURE_OFFLINE, "hint", "what");
    assert_int_equal(print_failure(print, &failure), GT_EXIT_UNAVAILABLE);
    capture_end(&capture, ret, cap);
}

static void test_print_terminal(void **state)
{
    struct print print = {.style = PRINT_HUMAN, .has_marks = true, .has_color = true};
    char text[2048];

    say_all(&print, text, sizeof(text));
    assert_string_equal(text, "… progress\r\033[K\033[32m✓\033[0m done\nplain\nnote\n"
                              "\033[33m!\033[0m warning\n"
                              "\033[31m✗\033[0m what\n  hint  [GTD-E31]\n");
}

static void test_print_terminal_without_color(void **state)
{
    struct print print = {.style = PRINT_HUMAN};
    char text[2048];

    say_all(&print, text, sizeof(text));
    assert_string_equal(text, "ok: done\nplain\nnote\nwarning: warning\n"
                              "error: what\n  hint  [GTD-E31]\n");
}

static void test_print_lines(void **state)
{
    struct print print = {.style = PRINT_LINES};
    char text[2048];

    say_all(&print, text, sizeof(text));
    assert_null(strstr(text, "progress"));
    assert_null(strstr(text, "plain"));
    assert_null(strchr(text, '\033'));
    assert_non_null(strstr(text, "fact\n"));
    assert_non_null(strstr(text, "note\n"));
    assert_non_null(strstr(text, "warning\n"));
    assert_non_null(strstr(text, "[GTD-E31] what; hint\n"));
}

static void test_print_quiet_errors_only(void **state)
{
    struct print print = {.style = PRINT_HUMAN, .is_quiet = true};
    char text[2048];

    say_all(&print, text, sizeof(text));
    assert_string_equal(text, "error: what\n  hint  [GTD-E31]\n");
}

static void test_print_terse_warnings_and_errors(void **state)
{
    struct print human = {.style = PRINT_HUMAN, .is_terse = true};
    struct print lines = {.style = PRINT_LINES, .is_terse = true};
    char text[2048];

    say_all(&human, text, sizeof(text));
    assert_non_null(strstr(text, "warning: "));
    assert_non_null(strstr(text, "error: what"));
    assert_null(strstr(text, "ok: "));
    say_all(&lines, text, sizeof(text));
    assert_null(strstr(text, " info "));
    assert_non_null(strstr(text, " warn "));
}

static void test_print_init_chooses_style(void **state)
{
    static const struct {
        const char *term, *no_color;
        bool is_plain, has_color;
    } rows[] = {
        {"xterm", NULL, false, true}, {"dumb", NULL, false, false}, {NULL, NULL, false, false},
        {"xterm", "1", false, false}, {"xterm", "", false, true},   {"xterm", NULL, true, false},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(rows); i++) {
        struct print print;
        struct print_options options = {.is_plain_color = rows[i].is_plain};

        rows[i].term ? setenv("TERM", rows[i].term, 1) : unsetenv("TERM");
        rows[i].no_color ? setenv("NO_COLOR", rows[i].no_color, 1) : unsetenv("NO_COLOR");
        print_init(&print, &options);
        assert_int_equal(print.has_color, rows[i].has_color);
    }
}

static void test_print_events_are_json_lines(void **state)
{
    struct print print = {.style = PRINT_LINES, .is_json = true, .is_quiet = true};
    char text[2048];
    struct capture capture = capture_begin(STDOUT_FILENO);

    print_event(&print, "up", "{s:s, s:i}", "device", "a\"\x01\xc3\xa9", "port", 4444);
    print_event(&print, "closing", "{}");
    capture_end(&capture, text, sizeof(text));
    char *second = strchr(text, '\n') + 1;
    second[-1] = 0;
    json_t *event = json_loads(text, 0, NULL);
    assert_non_null(event);
    assert_string_equal(json_string_value(json_object_get(event, "event")), "up");
    assert_string_equal(json_string_value(json_object_get(event, "device")), "a\"\x01\xc3\xa9");
    assert_int_equal(json_integer_value(json_object_get(event, "port")), 4444);
    assert_int_equal(strlen(json_string_value(json_object_get(event, "time"))), 24);
    json_decref(event);
    assert_non_null(strstr(second, "\"event\":\"closing\"}\n"));
}

static void test_print_no_events_without_json(void **state)
{
    struct print print = {.style = PRINT_LINES};
    char text[64];
    struct capture capture = capture_begin(STDOUT_FILENO);

    print_event(&print, "up", "{}");
    capture_end(&capture, text, sizeof(text));
    assert_string_equal(text, "");
}

/* The pipe is full: events are dropped, and the next one that passes has their number. */
static void test_print_full_pipe_drops_and_counts(void **state)
{
    struct print print = {.is_json = true, .is_quiet = true};
    char text[1 << 17];
    struct capture capture = capture_begin(STDOUT_FILENO);

    for (int i = 0; i < 5000; i++)
        print_event(&print, "up", "{s:i}", "n", i);
    unsigned n_lost = print.n_events_lost;
    bool is_read = read(capture.reader, text, sizeof(text)) > 0;
    print_event(&print, "late", "{}");
    capture_end(&capture, text, sizeof(text));
    assert_true(n_lost > 0);
    assert_true(is_read);
    assert_int_equal(print.n_events_lost, 0);
    assert_non_null(strstr(text, "\"event\":\"late\",\"events_lost\":"));
}

static void test_print_broken_output_is_recorded(void **state)
{
    struct print print = {0};
    int saved = dup(STDOUT_FILENO), full = open("/dev/full", O_WRONLY);

    assert_true(full >= 0);
    dup2(full, STDOUT_FILENO);
    print_data(&print, "%s\n", "lost");
    dup2(saved, STDOUT_FILENO);
    close(saved);
    close(full);
    assert_int_equal(print.stdout_errno, ENOSPC);
}

static void on_alarm(int number)
{
    print_wait_set_interrupted(true);
}

/* The reader does not read: a signal ends the wait, and later output does not wait. */
static void test_print_signal_ends_wait_for_reader(void **state)
{
    struct print print = {0};
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    struct capture capture = capture_begin(STDOUT_FILENO);
    static char text[1 << 18];

    memset(text, 'x', sizeof(text));
    sigaction(SIGALRM, &action, NULL);
    alarm(1);
    print_bytes(&print, text, sizeof(text));
    print_bytes(&print, text, sizeof(text));
    capture_end(&capture, text, sizeof(text));
    print_wait_set_interrupted(false);
    assert_int_equal(print.stdout_errno, EINTR);
}

static void test_print_json_text_is_not_shortened(void **state)
{
    uint8_t bytes[3000];

    memset(bytes, 0xff, sizeof(bytes));
    json_t *text = print_json_text(gt_span(bytes, sizeof(bytes)));
    assert_int_equal(json_string_length(text), 4 * sizeof(bytes));
    json_decref(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_print_terminal),
        cmocka_unit_test(test_print_terminal_without_color),
        cmocka_unit_test(test_print_lines),
        cmocka_unit_test(test_print_quiet_errors_only),
        cmocka_unit_test(test_print_terse_warnings_and_errors),
        cmocka_unit_test(test_print_init_chooses_style),
        cmocka_unit_test(test_print_events_are_json_lines),
        cmocka_unit_test(test_print_no_events_without_json),
        cmocka_unit_test(test_print_full_pipe_drops_and_counts),
        cmocka_unit_test(test_print_broken_output_is_recorded),
        cmocka_unit_test(test_print_signal_ends_wait_for_reader),
        cmocka_unit_test(test_print_json_text_is_not_shortened),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
