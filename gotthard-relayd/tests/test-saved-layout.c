/* SPDX-License-Identifier: ISC */
/* saved-layout.c: a record with fields and descriptors, every cut of it, and invalid descriptors.
 */
#include "snapshot/saved-layout.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

struct record {
    uint32_t number;
    int socket, pipe, last;
};

static bool number_is_valid(const void *record)
{
    return ((const struct record *)record)->number != 13;
}

static const struct gt_field fields[] = {GT_FIELD_U32(struct record, number)};
static const struct saved_fd fds[] = {SAVED_SOCKET(struct record, socket),
                                      SAVED_OPTIONAL_PIPE(struct record, pipe),
                                      SAVED_OPTIONAL_SOCKET(struct record, last)};
static const struct saved_layout layout = {SAVED_LAYOUT(PAIR, fields), SAVED_LAYOUT_FDS(fds),
                                           .is_valid = number_is_valid};
#define ENCODED_SIZE 17 /* kind, number, three descriptors */

/* Writes @record and reads it back. Returns false if the reader rejected it. */
static bool round_trip(const struct record *record, struct record *ret)
{
    uint8_t bytes[ENCODED_SIZE];
    struct gt_writer writer = gt_writer(bytes, sizeof(bytes));

    saved_layout_write(&layout, &writer, record);
    assert_false(writer.failed);
    assert_int_equal(writer.n, ENCODED_SIZE);
    assert_int_equal(bytes[0], SAVED_PAIR);
    struct gt_reader reader = gt_reader(bytes + 1, sizeof(bytes) - 1);
    saved_layout_read(&layout, &reader, ret);
    return gt_reader_is_done(&reader);
}

static void test_saved_layout_reads_what_it_wrote(void **state)
{
    static const struct record records[] = {
        {0, 3, -1, -1}, {1, 4, 5, -1}, {UINT32_MAX, SAVED_FD_MAX - 1, -1, 7}};

    for (size_t i = 0; i < GT_ARRAY_SIZE(records); i++) {
        struct record got;

        assert_true(round_trip(&records[i], &got));
        assert_memory_equal(&got, &records[i], sizeof(got));
    }
}

static void test_saved_layout_rejects_invalid_descriptors_and_values(void **state)
{
    static const struct record records[] = {
        {1, -1, 5, 6},           /* required */
        {1, 2, 5, 6},            /* a standard stream */
        {1, 4, 0, 6},            /* a standard stream */
        {1, SAVED_FD_MAX, 5, 6}, /* too large */
        {1, 4, -2, 6},           /* another negative number */
        {1, 4, 5, SAVED_FD_MAX},
        {13, 4, 5, 6}, /* is_valid */
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(records); i++) {
        struct record got;

        assert_false(round_trip(&records[i], &got));
    }
}

static void test_saved_layout_fails_on_every_cut(void **state)
{
    const struct record record = {1, 4, 5, 6};
    uint8_t bytes[ENCODED_SIZE];

    for (size_t n = 0; n < ENCODED_SIZE; n++) {
        struct gt_writer writer = gt_writer(bytes, n);

        saved_layout_write(&layout, &writer, &record);
        assert_true(writer.failed);
    }
    struct gt_writer writer = gt_writer(bytes, sizeof(bytes));
    saved_layout_write(&layout, &writer, &record);
    for (size_t n = 1; n < ENCODED_SIZE; n++) {
        struct gt_reader reader = gt_reader(bytes + 1, n - 1);
        struct record got;

        saved_layout_read(&layout, &reader, &got);
        assert_true(reader.failed);
        assert_int_equal(got.last, -1);
    }
}

struct visit {
    int fds[3];
    unsigned types[3];
    size_t n, n_max;
};

static int on_fd(void *userdata, int fd, unsigned type)
{
    struct visit *visit = userdata;

    if (visit->n == visit->n_max)
        return 42;
    visit->fds[visit->n] = fd;
    visit->types[visit->n++] = type;
    return 0;
}

static void test_saved_layout_visits_present_descriptors(void **state)
{
    struct visit visit = {.n_max = 3};

    assert_int_equal(saved_layout_each_fd(&layout, &(struct record){1, 4, -1, 6}, on_fd, &visit),
                     0);
    assert_int_equal(visit.n, 2);
    assert_int_equal(visit.fds[0], 4);
    assert_int_equal(visit.fds[1], 6);
    visit = (struct visit){.n_max = 3};
    assert_int_equal(saved_layout_each_fd(&layout, &(struct record){1, 4, 5, 6}, on_fd, &visit), 0);
    assert_int_equal(visit.n, 3);
    assert_int_equal(visit.types[0], S_IFSOCK);
    assert_int_equal(visit.types[1], S_IFIFO);
    visit = (struct visit){.n_max = 1};
    assert_int_equal(saved_layout_each_fd(&layout, &(struct record){1, 4, 5, 6}, on_fd, &visit),
                     42);
    assert_int_equal(visit.n, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_saved_layout_reads_what_it_wrote),
        cmocka_unit_test(test_saved_layout_rejects_invalid_descriptors_and_values),
        cmocka_unit_test(test_saved_layout_fails_on_every_cut),
        cmocka_unit_test(test_saved_layout_visits_present_descriptors),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
