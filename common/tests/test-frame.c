/* SPDX-License-Identifier: ISC */
/*
 * frame.c: frames encoded and decoded, with the input cut at every byte, and headers of every type
 * with the lengths around its limits.
 */
// clang-format off
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include "gotthard/proto/frame.h"

#define SPAN(text)                              \
    {                                           \
        (const uint8_t *)text, sizeof(text) - 1 \
    }

static const struct gt_frame frames[] = {
    {.type = GT_FRAME_HELLO,
     .version = 1,
     .stream = 0x01020304,
     .attempt = UINT32_MAX,
     .offset = 1ull << 40,
     .window = 9,
     .stop = 0x0203,
     .service = SPAN("ssh")},
    {.type = GT_FRAME_HELLO, .version = 1, .stream = 1, .attempt = 1, .service = SPAN("")},
    {.type = GT_FRAME_ACK, .offset = UINT64_MAX, .window = UINT32_MAX, .stop = 1},
    {.type = GT_FRAME_DATA, .data = SPAN("some bytes")},
    {.type = GT_FRAME_END, .offset = 10, .code = 0x0304},
    {.type = GT_FRAME_RST, .code = 0x0102},
    {.type = GT_FRAME_PING, .value = 77},
    {.type = GT_FRAME_PONG, .value = UINT64_MAX},
    {.type = GT_FRAME_CONNECTED},
    {.type = GT_FRAME_DONE},
};

static size_t write_all(uint8_t *buf, size_t cap)
{
    struct gt_writer w = gt_writer(buf, cap);

    for (size_t i = 0; i < GT_ARRAY_SIZE(frames); i++) {
        gt_frame_write(&w, &frames[i]);
        gt_write_span(&w, frames[i].data);
    }
    assert_false(w.failed);
    return w.n;
}

static void assert_same(const struct gt_frame *a, const struct gt_frame *b)
{
    assert_int_equal(a->type, b->type);
    assert_int_equal(a->offset, b->offset);
    assert_int_equal(a->window, b->window);
    assert_int_equal(a->version, b->version);
    assert_int_equal(a->stream, b->stream);
    assert_int_equal(a->attempt, b->attempt);
    assert_int_equal(a->stop, b->stop);
    assert_int_equal(a->code, b->code);
    assert_int_equal(a->value, b->value);
    assert_true(gt_span_equals(a->service, b->service));
}

static void test_frames_decode_across_every_cut(void **state)
{
    uint8_t buf[512];
    size_t n = write_all(buf, sizeof(buf));

    for (size_t piece = 1; piece <= n; piece++) {
        struct gt_framer framer = {0};
        struct gt_frame frame;
        size_t n_frames = 0, n_data = 0;

        for (size_t at = 0; at < n; at += piece) {
            struct gt_reader in = gt_reader(buf + at, GT_MIN(piece, n - at));
            int r;

            while ((r = gt_framer_next(&framer, &in, &frame)) == 0) {
                const struct gt_frame *expected = &frames[n_frames];

                if (frame.type == GT_FRAME_DATA) {
                    assert_memory_equal(frame.data.data, expected->data.data + n_data,
                                        frame.data.n);
                    n_data += frame.data.n;
                    n_frames += n_data == expected->data.n;
                    continue;
                }
                assert_same(&frame, expected);
                n_frames++;
            }
            assert_int_equal(r, GT_FRAME_E_MORE);
        }
        assert_int_equal(n_frames, GT_ARRAY_SIZE(frames));
    }
}

/* Known types with valid and invalid lengths, and unknown types of both halves. */
static void test_headers_with_invalid_type_or_length_are_rejected(void **state)
{
    static const uint16_t lengths[] = {0,  1,  2,  3,  7,   8,   9,   10,  11,    13,    14,
                                       15, 25, 26, 27, 130, 131, 154, 155, 16000, 16001, 65535};
    static const uint16_t good[9][2] = {{1, 0}, {26, 154}, {1, 16000}, {14, 14}, {10, 10},
                                        {2, 2}, {8, 8},    {8, 8},     {0, 0}};

    for (unsigned type = 0; type < 256; type++)
        for (size_t i = 0; i < GT_ARRAY_SIZE(lengths); i++)
            for (uint8_t flags = 0; flags < 2; flags++) {
                struct gt_framer framer = {0};
                struct gt_frame frame;
                uint8_t header[] = {(uint8_t)type, flags, (uint8_t)(lengths[i] >> 8),
                                    (uint8_t)lengths[i]};
                struct gt_reader in = gt_reader(header, sizeof(header));
                bool is_connected = !flags && lengths[i] == 2;
                bool is_good = (type >= GT_FRAME_MAY_SKIP && type != GT_FRAME_CONNECTED) ||
                               (type == GT_FRAME_CONNECTED && is_connected) ||
                               (type < 9 && !flags && lengths[i] >= good[type][0] &&
                                lengths[i] <= good[type][1]);

                assert_int_equal(gt_framer_next(&framer, &in, &frame), !is_good ? GT_FRAME_E_BAD
                                                                       : type == GT_FRAME_DONE
                                                                           ? 0
                                                                           : GT_FRAME_E_MORE);
            }
}

/* The length of the service differs from that of the frame, in both directions. Nothing after it is
 * decoded. */
static void test_service_length_must_fit_the_frame(void **state)
{
    for (int lie = -1; lie <= 1; lie++) {
        struct gt_framer framer = {0};
        struct gt_frame frame;
        uint8_t hello[GT_FRAME_HEADER + 26 + 3] = {GT_FRAME_HELLO, 0, 0, 26 + 3};
        struct gt_reader in = gt_reader(hello, sizeof(hello)), more = gt_reader("\x08\0\0", 4);

        hello[GT_FRAME_HEADER + 25] = (uint8_t)(3 + lie);
        assert_int_equal(gt_framer_next(&framer, &in, &frame), lie ? GT_FRAME_E_BAD : 0);
        assert_int_equal(gt_framer_next(&framer, &more, &frame), lie ? GT_FRAME_E_BAD : 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frames_decode_across_every_cut),
        cmocka_unit_test(test_headers_with_invalid_type_or_length_are_rejected),
        cmocka_unit_test(test_service_length_must_fit_the_frame),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
