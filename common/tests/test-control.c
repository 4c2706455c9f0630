/* SPDX-License-Identifier: ISC */
/*
 * control.c: each frame encoded and decoded, its exact size, and each invalid header or body.
 */
#include "gotthard/proto/control.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>

static const struct {
    struct gt_control_frame frame;
    size_t n_body;
} samples[] = {
    {{.type = GT_CONTROL_HELLO,
      .hello = {.version_min = 1, .version_max = 3, .software = "gotthard 1.0"}},
     2 + 2 + 2 + 12},
    {{.type = GT_CONTROL_WELCOME,
      .welcome = {.version = 1,
                  .boot_id = {9, 8, 7},
                  .heartbeat_ms = 15000,
                  .max_streams = 64,
                  .ttl_s = 43200}},
     28},
    {{.type = GT_CONTROL_RENDEZVOUS,
      .rid = {1, 2, 3},
      .rendezvous = {.generation = 7, .port_hint = 7001, .ttl_s = 3600}},
     26},
    {{.type = GT_CONTROL_SESSION,
      .rid = {1, 2, 3},
      .session = {.port = 7001, .ttl_left_s = 3599, .is_peer_up = true}},
     23},
    {{.type = GT_CONTROL_PEER, .rid = {4}, .peer = {.is_up = false, .reason = GT_CODE_LOST}}, 18},
    {{.type = GT_CONTROL_OPEN,
      .rid = {5},
      .open = {.stream = 1, .attempt = UINT32_MAX, .segment = 1160}},
     26},
    {{.type = GT_CONTROL_TICKET,
      .rid = {6},
      .ticket = {.stream = 1, .attempt = 2, .id = {3}, .secret = {4}, .ttl_s = 30, .segment = 536}},
     76},
    {{.type = GT_CONTROL_STREAM_END,
      .rid = {7},
      .stream_end = {.stream = 1, .attempt = 1, .code = 2, .n_up = UINT64_MAX, .n_down = 5}},
     42},
    {{.type = GT_CONTROL_PING, .ping = 0x0123456789abcdef}, 8},
    {{.type = GT_CONTROL_PONG, .ping = 0}, 8},
    {{.type = GT_CONTROL_RESTARTING, .restarting = {.reconnect_in_ms = 500, .try_for_ms = 60000}},
     8},
    {{.type = GT_CONTROL_BYE, .rid = {8}, .code = GT_CODE_BYE}, 18},
    {{.type = GT_CONTROL_ERROR, .rid = {9}, .code = GT_CODE_NO_PORT}, 18},
    {{.type = GT_CONTROL_LOAD, .rid = {10}, .load = 0x01020304}, 20},
    {{.type = GT_CONTROL_ACCESS, .access = {(const uint8_t *)"a part", 6}}, 2 + 6},
    {{.type = GT_CONTROL_EFFECT,
      .effect = {.result = GT_EFFECT_KNOWN, .serial = 999999999999999, .n_ended = 7}},
     13},
    {{.type = GT_CONTROL_LIMIT, .rid = {11}, .limit = {.code = GT_CODE_IDENTITY, .value = 64}}, 22},
};

static void test_frames_decode_to_what_was_encoded(void **state)
{
    for (size_t i = 0; i < GT_ARRAY_SIZE(samples); i++) {
        uint8_t bytes[GT_CONTROL_FRAME_MAX], again[GT_CONTROL_FRAME_MAX];
        struct gt_control_frame back;
        size_t used = 0, n = gt_control_encode(&samples[i].frame, bytes);

        print_message("type %02x\n", samples[i].frame.type);
        assert_int_equal(n, GT_CONTROL_HEADER + samples[i].n_body);
        assert_int_equal(bytes[0], samples[i].frame.type);
        assert_int_equal(bytes[2] << 8 | bytes[3], samples[i].n_body);
        assert_int_equal(gt_control_decode(bytes, n, &back, &used), 0);
        assert_int_equal(used, n);
        assert_int_equal(gt_control_encode(&back, again), n);
        assert_memory_equal(again, bytes, n);
    }
}

/* Truncated at each byte: incomplete, and the results untouched. Longer: only the frame is used. */
static void test_truncated_frame_is_incomplete(void **state)
{
    for (size_t i = 0; i < GT_ARRAY_SIZE(samples); i++) {
        uint8_t bytes[GT_CONTROL_FRAME_MAX + 1] = {0};
        struct gt_control_frame back = {.type = GT_CONTROL_PONG, .ping = 42};
        size_t used = 4242, n = gt_control_encode(&samples[i].frame, bytes);

        for (size_t cut = 0; cut < n; cut++)
            assert_int_equal(gt_control_decode(bytes, cut, &back, &used), GT_CONTROL_E_SHORT);
        assert_int_equal(back.ping, 42);
        assert_int_equal(used, 4242);
        assert_int_equal(gt_control_decode(bytes, n + 1, &back, &used), 0);
        assert_int_equal(used, n);
    }
}

static void test_body_of_another_size_is_rejected(void **state)
{
    for (size_t i = 0; i < GT_ARRAY_SIZE(samples); i++) {
        static const int changes[] = {-1, 1};

        for (size_t j = 0; j < GT_ARRAY_SIZE(changes); j++) {
            uint8_t bytes[GT_CONTROL_FRAME_MAX] = {0};
            struct gt_control_frame back;
            size_t used, n = gt_control_encode(&samples[i].frame, bytes);

            n = (size_t)((int)n + changes[j]);
            bytes[3] = (uint8_t)(n - GT_CONTROL_HEADER);
            assert_int_equal(gt_control_decode(bytes, n, &back, &used), GT_CONTROL_E_BAD);
        }
        uint8_t empty[GT_CONTROL_HEADER] = {(uint8_t)samples[i].frame.type};
        struct gt_control_frame back;
        size_t used;
        assert_int_equal(gt_control_decode(empty, sizeof(empty), &back, &used), GT_CONTROL_E_BAD);
    }
}

static void test_invalid_header_is_rejected_before_its_body(void **state)
{
    static const struct {
        uint8_t header[GT_CONTROL_HEADER];
        int r;
    } table[] = {
        {{0x30, 0, 0, 8}, GT_CONTROL_E_SHORT},   {{0x30, 1, 0, 8}, GT_CONTROL_E_BAD},
        {{0x30, 0x80, 0, 8}, GT_CONTROL_E_BAD},  {{0x00, 0, 0, 0}, GT_CONTROL_E_BAD},
        {{0x7f, 0, 0, 8}, GT_CONTROL_E_BAD},     {{0x03, 0, 0, 8}, GT_CONTROL_E_BAD},
        {{0x80, 0, 0, 8}, GT_CONTROL_E_SHORT},   {{0xff, 0, 4, 0}, GT_CONTROL_E_SHORT},
        {{0xff, 0, 4, 1}, GT_CONTROL_E_BAD},     {{0x80, 0, 0xff, 0xff}, GT_CONTROL_E_BAD},
        {{0x01, 0, 4, 1}, GT_CONTROL_E_BAD},     {{0x80, 1, 0, 0}, GT_CONTROL_E_BAD},
        {{0x80, 0, 0, 0}, GT_CONTROL_E_UNKNOWN}, {{0xff, 0, 0, 0}, GT_CONTROL_E_UNKNOWN},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(table); i++) {
        struct gt_control_frame back;
        size_t used = 0;

        assert_int_equal(gt_control_decode(table[i].header, GT_CONTROL_HEADER, &back, &used),
                         table[i].r);
        assert_int_equal(used, table[i].r == GT_CONTROL_E_UNKNOWN ? GT_CONTROL_HEADER : 0);
    }
    uint8_t unknown[GT_CONTROL_FRAME_MAX] = {0xc0, 0, 4, 0};
    struct gt_control_frame back;
    size_t used = 0;
    assert_int_equal(gt_control_decode(unknown, sizeof(unknown), &back, &used),
                     GT_CONTROL_E_UNKNOWN);
    assert_int_equal(used, sizeof(unknown));
}

/* One field of a sample is changed (@at: offset in the body). The frame must be rejected. */
static void test_invalid_values_are_rejected(void **state)
{
    static const struct {
        enum gt_control_type type;
        size_t at;
        uint8_t bytes[4];
        size_t n;
    } table[] = {
        {GT_CONTROL_HELLO, 0, {0, 0}, 2},       /* no version 0 */
        {GT_CONTROL_HELLO, 2, {0, 0}, 2},       /* max below min */
        {GT_CONTROL_HELLO, 4, {0xff, 0xff}, 2}, /* string longer than the frame */
        {GT_CONTROL_HELLO, 4, {0, 11}, 2},      /* one byte after the string */
        {GT_CONTROL_HELLO, 8, {0}, 1},          /* NUL inside */
        {GT_CONTROL_WELCOME, 0, {0, 0}, 2},     /* no version 0 */
        {GT_CONTROL_SESSION, 22, {2}, 1},       /* neither true nor false */
        {GT_CONTROL_PEER, 16, {0xff}, 1},
        {GT_CONTROL_OPEN, 20, {0, 0, 0, 0}, 4}, /* attempts count from 1 */
        {GT_CONTROL_TICKET, 20, {0, 0, 0, 0}, 4},
        {GT_CONTROL_STREAM_END, 20, {0, 0, 0, 0}, 4},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(table); i++) {
        for (size_t j = 0; j < GT_ARRAY_SIZE(samples); j++) {
            uint8_t bytes[GT_CONTROL_FRAME_MAX];
            struct gt_control_frame back;
            size_t used, n = gt_control_encode(&samples[j].frame, bytes);

            if (samples[j].frame.type != table[i].type)
                continue;
            memcpy(bytes + GT_CONTROL_HEADER + table[i].at, table[i].bytes, table[i].n);
            print_message("type %02x at %zu\n", table[i].type, table[i].at);
            assert_int_equal(gt_control_decode(bytes, n, &back, &used), GT_CONTROL_E_BAD);
        }
    }
}

static void test_software_string_has_a_limit(void **state)
{
    struct gt_control_frame frame = {.type = GT_CONTROL_HELLO, .hello = {1, 1, ""}}, back;
    uint8_t bytes[GT_CONTROL_FRAME_MAX];
    size_t used, n;

    memset(frame.hello.software, 'x', GT_SOFTWARE_MAX);
    n = gt_control_encode(&frame, bytes);
    assert_int_equal(gt_control_decode(bytes, n, &back, &used), 0);
    assert_string_equal(back.hello.software, frame.hello.software);
    bytes[n] = 'x';
    bytes[3]++;
    bytes[GT_CONTROL_HEADER + 5]++;
    assert_int_equal(gt_control_decode(bytes, n + 1, &back, &used), GT_CONTROL_E_BAD);
}

/* A frame that is accepted must be encoded to the same bytes. */
static void test_decoded_random_frames_encode_to_the_same_bytes(void **state)
{
    unsigned seed = (unsigned)time(NULL), n_good = 0;

    print_message("seed %u\n", seed);
    for (unsigned i = 0; i < 200000; i++) {
        uint8_t bytes[GT_CONTROL_FRAME_MAX], again[GT_CONTROL_FRAME_MAX];
        struct gt_control_frame back;
        size_t used, n = gt_control_encode(
                         &samples[(size_t)rand_r(&seed) % GT_ARRAY_SIZE(samples)].frame, bytes);

        for (int j = rand_r(&seed) % 4; j > 0; j--)
            bytes[(size_t)rand_r(&seed) % n] = (uint8_t)rand_r(&seed);
        if (gt_control_decode(bytes, n, &back, &used) != 0)
            continue;
        n_good++;
        assert_int_equal(gt_control_encode(&back, again), used);
        assert_memory_equal(again, bytes, used);
    }
    assert_true(n_good > 1000);
}

static void test_codes_have_texts(void **state)
{
    for (unsigned code = 0; code <= GT_CODE_INTERNAL; code++)
        assert_non_null(gt_code_text(code));
    assert_string_equal(gt_code_text(GT_CODE_EXPIRED), "expired");
    assert_string_equal(gt_code_text(4711), "code 4711");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frames_decode_to_what_was_encoded),
        cmocka_unit_test(test_truncated_frame_is_incomplete),
        cmocka_unit_test(test_body_of_another_size_is_rejected),
        cmocka_unit_test(test_invalid_header_is_rejected_before_its_body),
        cmocka_unit_test(test_invalid_values_are_rejected),
        cmocka_unit_test(test_software_string_has_a_limit),
        cmocka_unit_test(test_decoded_random_frames_encode_to_the_same_bytes),
        cmocka_unit_test(test_codes_have_texts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
