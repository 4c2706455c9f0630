/* SPDX-License-Identifier: ISC */
/*
 * segment.c: records of several segments, lengths around their limits, and records that are cut at
 * every byte.
 */
// clang-format off
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include "gotthard/proto/segment.h"

static size_t put(uint8_t *buf, size_t cap, const struct gt_segment *segments, size_t n)
{
    struct gt_writer w = gt_writer(buf, cap);

    for (size_t i = 0; i < n; i++) {
        gt_segment_write(&w, &segments[i]);
        gt_write_span(&w, segments[i].data);
    }
    assert_false(w.failed);
    return w.n;
}

static void test_segments_of_a_record_decode_in_order(void **state)
{
    const struct gt_segment segments[] = {
        {7, true, gt_span_text("hello")},
        {0, false, gt_span_text("ping")},
        {UINT32_MAX, false, gt_span_text("x")},
        {7, false, gt_span_text("again")},
    };
    uint8_t buf[128];
    struct gt_reader in = gt_reader(buf, put(buf, sizeof(buf), segments, 4));
    struct gt_segment got;

    assert_memory_equal(buf, "\0\0\0\7\x80\5hello\0\0\0\0\0\4ping", 21);
    for (size_t i = 0; i < GT_ARRAY_SIZE(segments); i++) {
        assert_int_equal(gt_segment_next(&in, &got), 0);
        assert_int_equal(got.stream, segments[i].stream);
        assert_int_equal(got.is_begin, segments[i].is_begin);
        assert_true(gt_span_equals(got.data, segments[i].data));
    }
    assert_int_equal(gt_segment_next(&in, &got), GT_SEGMENT_E_END);
}

static void test_lengths_within_limits_are_accepted(void **state)
{
    static uint8_t bytes[GT_SEGMENT_MAX + 1], buf[GT_SEGMENT_HEADER + GT_SEGMENT_MAX];
    static const size_t lengths[] = {1, 2, 255, 256, GT_SEGMENT_MAX - 1, GT_SEGMENT_MAX};

    for (size_t i = 0; i < GT_ARRAY_SIZE(lengths); i++) {
        const struct gt_segment segment = {1, i % 2, gt_span(bytes, lengths[i])};
        struct gt_reader in = gt_reader(buf, put(buf, sizeof(buf), &segment, 1));
        struct gt_segment got;

        assert_int_equal(gt_segment_next(&in, &got), 0);
        assert_int_equal(got.data.n, lengths[i]);
        assert_int_equal(gt_segment_next(&in, &got), GT_SEGMENT_E_END);
    }
    for (int i = 0; i < 2; i++) {
        struct gt_writer w = gt_writer(buf, sizeof(buf));
        const struct gt_segment segment = {1, false, gt_span(bytes, i ? sizeof(bytes) : 0)};

        gt_segment_write(&w, &segment);
        assert_true(w.failed);
    }
}

/* Cut inside a segment it is malformed, between two it is a shorter record. */
static void test_a_record_cut_inside_a_segment_is_malformed(void **state)
{
    const struct gt_segment segments[] = {{7, true, gt_span_text("hello")},
                                          {9, false, gt_span_text("data")}};
    uint8_t buf[64];
    size_t n = put(buf, sizeof(buf), segments, 2), n_first = GT_SEGMENT_HEADER + 5;

    for (size_t cut = 0; cut <= n; cut++) {
        struct gt_reader in = gt_reader(buf, cut);
        struct gt_segment got;
        bool is_whole = cut == 0 || cut == n_first || cut == n;
        int r;

        while ((r = gt_segment_next(&in, &got)) == 0)
            ;
        assert_int_equal(r, is_whole ? GT_SEGMENT_E_END : GT_SEGMENT_E_BAD);
        if (cut > 0 && r == GT_SEGMENT_E_BAD)
            assert_int_equal(gt_segment_next(&in, &got), GT_SEGMENT_E_BAD);
    }
}

static void test_invalid_headers_are_malformed(void **state)
{
    static const struct {
        const char *name, *bytes;
        int r;
    } cases[] = {
        {"good", "\0\0\0\1\0\1x", 0},
        {"begin", "\0\0\0\1\x80\1x", 0},
        {"stream 0", "\0\0\0\0\0\1x", 0},
        {"empty", "\0\0\0\1\0\0x", GT_SEGMENT_E_BAD},
        {"empty begin", "\0\0\0\1\x80\0x", GT_SEGMENT_E_BAD},
        {"reserved bit", "\0\0\0\1\x40\1x", GT_SEGMENT_E_BAD},
        {"longer than the record", "\0\0\0\1\0\2x", GT_SEGMENT_E_BAD},
        {"much longer", "\0\0\0\1\x3f\xffx", GT_SEGMENT_E_BAD},
        {"stream 0 begins", "\0\0\0\0\x80\1x", GT_SEGMENT_E_BAD},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        struct gt_reader in = gt_reader(cases[i].bytes, 7);
        struct gt_segment got;

        if (gt_segment_next(&in, &got) != cases[i].r)
            fail_msg("%s", cases[i].name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_segments_of_a_record_decode_in_order),
        cmocka_unit_test(test_lengths_within_limits_are_accepted),
        cmocka_unit_test(test_a_record_cut_inside_a_segment_is_malformed),
        cmocka_unit_test(test_invalid_headers_are_malformed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
