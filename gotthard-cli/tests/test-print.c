/* SPDX-License-Identifier: ISC */
/* print.c: what stands on standard error and output in each style, and that nothing ever waits. */
#include "print.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "gotthard/log.h"

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
    assert_int_equal(print_failure(print, &failure), EXIT_UNREACHABLE);
    capture_end(&capture, ret, cap);
}

static void test_human(void **state)
{
    struct print print = {.style = PRINT_HUMAN, .has_marks = true, .has_color = true};
    char text[2048];
    say_all(&print, text, sizeof(text));
    assert_string_equal(text, "… progress\r\033[K\033[32m✓ \033[0mdone\nplain\nnote\n"
                              "\033[33m! \033[0mwarning\n"
                              "\033[31m✗ \033[0mwhat\n  hint  [GTD-E31]\n");
}

static void test_human_without_colour(void **state)
{
    struct print print = {.style = PRINT_HUMAN};
    char text[2048];
    say_all(&print, text, sizeof(text));
    assert_string_equal(text, "ok: done\nplain\nnote\nwarning: warning\n"
                              "error: what\n  hint  [GTD-E31]\n");
}

static void test_lines(void **state)
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

static void test_quiet(void **state)
{
    struct print print = {.style = PRINT_HUMAN, .is_quiet = true};
    char text[2048];
    say_all(&print, text, sizeof(text));
    assert_string_equal(text, "error: what\n  hint  [GTD-E31]\n");
}

static void test_init(void **state)
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

static void test_events(void **state)
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

static void test_no_events_without_json(void **state)
{
    struct print print = {.style = PRINT_LINES};
    char text[64];
    struct capture capture = capture_begin(STDOUT_FILENO);
    print_event(&print, "up", "{}");
    capture_end(&capture, text, sizeof(text));
    assert_string_equal(text, "");
}

/* Nobody reads: events are dropped and counted, and the next one that passes says so. */
static void test_full_pipe(void **state)
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

static void test_broken_output(void **state)
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_human),
        cmocka_unit_test(test_human_without_colour),
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_quiet),
        cmocka_unit_test(test_init),
        cmocka_unit_test(test_events),
        cmocka_unit_test(test_no_events_without_json),
        cmocka_unit_test(test_full_pipe),
        cmocka_unit_test(test_broken_output),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
