/* SPDX-License-Identifier: ISC */
/*
 * memfd.c: content of every size, seals, wiping, and descriptors that are no sealed memory.
 */
#include "snapshot/memfd.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "snapshot/saved-layout.h"

struct content {
    size_t n;
    unsigned n_calls;
};

/* Writes n bytes, each the low byte of its offset. */
static void write_content(void *userdata, struct gt_writer *writer)
{
    struct content *content = userdata;
    uint8_t *room = gt_write_room(writer, content->n);

    content->n_calls++;
    for (size_t i = 0; room && i < content->n; i++)
        room[i] = (uint8_t)i;
}

static void write_too_much(void *userdata, struct gt_writer *writer)
{
    writer->failed = true;
}

/* The buffer begins with 256 KiB and grows by factors of 4. */
static void test_memfd_holds_exactly_what_was_written(void **state)
{
    static const struct {
        size_t n;
        unsigned n_calls;
    } cases[] = {{1, 1}, {4096, 1}, {256 * 1024, 1}, {256 * 1024 + 1, 2}, {5 * 1024 * 1024, 4}};

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        struct content content = {.n = cases[i].n};
        struct memfd memfd;

        assert_int_equal(memfd_new(write_content, &content, &memfd), 0);
        assert_int_equal(content.n_calls, cases[i].n_calls);
        assert_int_equal(memfd.n, cases[i].n);
        size_t n_equal = 0;
        while (n_equal < memfd.n && memfd.data[n_equal] == (uint8_t)n_equal)
            n_equal++;
        assert_int_equal(n_equal, memfd.n);
        memfd_close(&memfd);
        assert_int_equal(memfd.fd, -1);
        memfd_close(&memfd); /* no effect the second time */
    }
}

static void test_memfd_rejects_content_without_limit(void **state)
{
    struct memfd memfd = {.fd = -2};

    assert_int_equal(memfd_new(write_too_much, NULL, &memfd), -EFBIG);
    assert_int_equal(memfd.fd, -2);
}

static void test_memfd_size_is_sealed_and_fd_close_on_exec(void **state)
{
    struct content content = {.n = 100};
    struct memfd memfd;

    assert_int_equal(memfd_new(write_content, &content, &memfd), 0);
    assert_int_equal(ftruncate(memfd.fd, 50), -1);
    assert_int_equal(ftruncate(memfd.fd, 200), -1);
    assert_int_equal(fcntl(memfd.fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
    assert_int_equal(fcntl(memfd.fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    memfd_close(&memfd);
}

/* As two images share it: one closes, the other sees zeros. */
static void test_memfd_close_wipes_for_both_images(void **state)
{
    struct content content = {.n = 5000};
    struct memfd memfd, other;

    assert_int_equal(memfd_new(write_content, &content, &memfd), 0);
    assert_int_equal(memfd_open(dup(memfd.fd), &other), 0);
    assert_int_equal(other.n, 5000);
    assert_memory_equal(other.data, memfd.data, 5000);
    assert_int_equal(fcntl(other.fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    memfd_close(&memfd);
    for (size_t at = 0; at < other.n; at++)
        assert_int_equal(other.data[at], 0);
    memfd_close(&other);
}

static void test_memfd_open_rejects_other_descriptors(void **state)
{
    struct memfd memfd = {.fd = -2};
    int unsealed = memfd_create("unsealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    int empty = memfd_create("empty", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    int file = open("/dev/null", O_RDWR | O_CLOEXEC);
    int fds[2];

    assert_int_equal(pipe(fds), 0);
    assert_int_equal(ftruncate(unsealed, 100), 0);
    assert_int_equal(fcntl(empty, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW), 0);
    const int rejected[] = {-1, 9999, unsealed, empty, file, fds[0]};
    for (size_t i = 0; i < GT_ARRAY_SIZE(rejected); i++) {
        assert_int_equal(memfd_open(rejected[i], &memfd), -EINVAL);
        assert_int_equal(memfd.fd, -2); /* untouched */
    }
    /* one seal less is not enough */
    assert_int_equal(fcntl(unsealed, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), 0);
    assert_int_equal(memfd_open(unsealed, &memfd), -EINVAL);
    assert_int_equal(fcntl(unsealed, F_ADD_SEALS, F_SEAL_SEAL), 0);
    assert_int_equal(memfd_open(unsealed, &memfd), 0);
    memfd_close(&memfd);
    close(empty);
    close(file);
    close(fds[0]);
    close(fds[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memfd_holds_exactly_what_was_written),
        cmocka_unit_test(test_memfd_rejects_content_without_limit),
        cmocka_unit_test(test_memfd_size_is_sealed_and_fd_close_on_exec),
        cmocka_unit_test(test_memfd_close_wipes_for_both_images),
        cmocka_unit_test(test_memfd_open_rejects_other_descriptors),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
