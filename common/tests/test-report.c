/* SPDX-License-Identifier: ISC */
/*
 * REPORT: a report opens with the key and the topic that it was sealed for, and with no other.
 * Altered bytes, texts that could affect a terminal, and wrong lengths are rejected.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gotthard/signaling/report.h"

#define TOPIC "gotthard/v1/d/GatewayOli/rsp/alice"

static const uint8_t key[GT_KEY_SIZE] = "the key of this session",
                     other_key[GT_KEY_SIZE] = "not it";

static const struct gt_report sample = {
    .seq = 7,
    .kind = GT_REPORT_UNREACHABLE,
    .is_last = true,
    .relay = "relay.example.org:7000",
    .why = "Connection refused",
};

static struct gt_span seal(const struct gt_report *report)
{
    static uint8_t message[GT_MESSAGE_MAX];
    size_t n;

    assert_int_equal(gt_report_seal(key, TOPIC, report, message, &n), 0);
    return gt_span(message, n);
}

static void test_report_opens_as_it_was_sealed(void **state)
{
    struct gt_report report;
    enum gt_message_type type;
    struct gt_span message = seal(&sample);

    assert_int_equal(gt_message_peek(message, &type), 0);
    assert_int_equal(type, GT_MESSAGE_REPORT);
    assert_int_equal(gt_report_open(key, TOPIC, message, &report), 0);
    assert_int_equal(report.seq, 7);
    assert_int_equal(report.kind, GT_REPORT_UNREACHABLE);
    assert_true(report.is_last);
    assert_string_equal(report.relay, sample.relay);
    assert_string_equal(report.why, sample.why);
    assert_true(message.n < 512);
}

static void test_report_is_for_one_session_and_one_topic(void **state)
{
    struct gt_report report;
    struct gt_span message = seal(&sample);

    assert_int_equal(gt_report_open(other_key, TOPIC, message, &report), GT_MESSAGE_E_BAD);
    assert_int_equal(gt_report_open(key, TOPIC "x", message, &report), GT_MESSAGE_E_BAD);
}

static void test_report_with_an_altered_byte_does_not_open(void **state)
{
    uint8_t altered[GT_MESSAGE_MAX];
    struct gt_report report;
    struct gt_span message = seal(&sample);

    for (size_t i = 0; i < message.n; i++) {
        memcpy(altered, message.data, message.n);
        altered[i] ^= 1;
        assert_int_equal(gt_report_open(key, TOPIC, gt_span(altered, message.n), &report),
                         GT_MESSAGE_E_BAD);
        assert_int_equal(gt_report_open(key, TOPIC, gt_span(message.data, i), &report),
                         GT_MESSAGE_E_BAD);
    }
}

static void test_report_texts_are_printable_and_bounded(void **state)
{
    struct gt_report report = sample;

    memset(report.why, 'a', sizeof(report.why)); /* not terminated */
    memcpy(report.relay, "\x1b[2Jx:1", sizeof("\x1b[2Jx:1"));
    assert_int_equal(gt_report_open(key, TOPIC, seal(&report), &report), 0);
    assert_int_equal(strlen(report.why), GT_REPORT_WHY_MAX);
    assert_string_equal(report.relay, "?[2Jx:1");
}

static void test_report_with_an_escape_sequence_is_rejected(void **state)
{
    uint8_t inner[512];
    struct gt_writer w = gt_writer(inner, sizeof(inner));
    struct gt_report report = sample;

    report.why[3] = '\x1b';
    gt_report_encode(&report, &w);
    assert_int_equal(gt_report_decode(gt_span(inner, w.n), &report), GT_MESSAGE_E_BAD);
}

static void test_report_of_any_other_length_is_rejected(void **state)
{
    uint8_t inner[512] = {0};
    struct gt_writer w = gt_writer(inner, sizeof(inner));
    struct gt_report report = sample;

    gt_report_encode(&report, &w);
    assert_int_equal(gt_report_decode(gt_span(inner, w.n), &report), 0);
    assert_int_equal(gt_report_decode(gt_span(inner, w.n + 1), &report), GT_MESSAGE_E_BAD);
    for (size_t n = 0; n < w.n; n++)
        assert_int_equal(gt_report_decode(gt_span(inner, n), &report), GT_MESSAGE_E_BAD);
    inner[1] = 2; /* the version */
    assert_int_equal(gt_report_decode(gt_span(inner, w.n), &report), GT_MESSAGE_E_BAD);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_report_opens_as_it_was_sealed),
        cmocka_unit_test(test_report_is_for_one_session_and_one_topic),
        cmocka_unit_test(test_report_with_an_altered_byte_does_not_open),
        cmocka_unit_test(test_report_texts_are_printable_and_bounded),
        cmocka_unit_test(test_report_with_an_escape_sequence_is_rejected),
        cmocka_unit_test(test_report_of_any_other_length_is_rejected),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
