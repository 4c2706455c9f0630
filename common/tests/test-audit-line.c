/* SPDX-License-Identifier: ISC */
/* Lines of the audit: their exact bytes, every hostile byte, and their limits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "gotthard/audit/audit-line.h"

#define TIME_MS UINT64_C(1796047500123) /* 2026-11-30T14:05:00.123Z */
#define ZEROS   "0000000000000000000000000000000000000000000000000000000000000000"

static char line[GT_AUDIT_LINE_MAX + 1];

static size_t encode(const struct gt_audit_event *event)
{
    size_t n = gt_audit_line_encode(event, &(struct gt_audit_head){.seq = 6}, TIME_MS, line);

    assert_int_equal(n, strlen(line));
    return n;
}

static void test_line_has_exactly_these_bytes(void **state)
{
    const struct gt_audit_event event = {
        .kind = GT_AUDIT_ENDED,
        .session = "7f3a9c21",
        .operator_ = "alice",
        .key = (const uint8_t[GT_KEY_SIZE]){0xab, 1},
        .service = "ssh",
        .target = "127.0.0.1:22",
        .source = "127.0.0.1:50000",
        .reason = "closed",
        .stream = 3,
        .n_up = 1,
        .n_down = UINT64_MAX,
        .serial = 42,
    };

    encode(&event);
    assert_string_equal(
        line, "{\"seq\":7,\"time\":\"2026-11-30T14:05:00.123Z\",\"event\":\"ended\","
              "\"session\":\"7f3a9c21\",\"operator\":\"alice\",\"service\":\"ssh\","
              "\"target\":\"127.0.0.1:22\",\"source\":\"127.0.0.1:50000\",\"reason\":\"closed\","
              "\"key\":\"ab01000000000000000000000000000000000000000000000000000000000000\","
              "\"stream\":3,\"up\":1,\"down\":18446744073709551615,\"seconds\":0,\"serial\":42,"
              "\"prev\":\"" ZEROS "\"}\n");
}

static void test_absent_values_are_left_out(void **state)
{
    encode(&(struct gt_audit_event){.kind = GT_AUDIT_STOP, .operator_ = ""});
    assert_string_equal(line, "{\"seq\":7,\"time\":\"2026-11-30T14:05:00.123Z\",\"event\":\"stop\","
                              "\"prev\":\"" ZEROS "\"}\n");
}

static void test_every_byte_is_escaped_exactly(void **state)
{
    for (unsigned byte = 1; byte < 256; byte++) {
        const char value[] = {'<', (char)byte, '>', 0};
        char expected[16];

        encode(&(struct gt_audit_event){.kind = GT_AUDIT_STOP, .reason = value});
        if (byte == '"' || byte == '\\')
            snprintf(expected, sizeof(expected), "<\\%c>", (int)byte);
        else if (byte >= ' ' && byte <= '~')
            snprintf(expected, sizeof(expected), "<%c>", (int)byte);
        else
            snprintf(expected, sizeof(expected), "<\\u00%02x>", byte);
        assert_non_null(strstr(line, expected));
        assert_true(gt_text_is_ascii(gt_span(line, strlen(line) - 1)));
    }
}

/* A value can end neither itself nor the line. */
static void test_value_cannot_forge_a_member(void **state)
{
    struct gt_audit_line decoded;
    static const char hostile[] = "x\",\"prev\":\"" ZEROS "\"}\n{\"seq\":1";
    size_t n = encode(&(struct gt_audit_event){.kind = GT_AUDIT_GRANTED, .purpose = hostile});

    assert_int_equal(strcspn(line, "\n"), n - 1);
    assert_int_equal(gt_audit_line_decode(gt_span(line, n), &decoded), 0);
    assert_string_equal(decoded.event, "granted");
    assert_non_null(strstr(line, "\"purpose\":\"x\\\",\\\"prev\\\":\\\""));
}

static size_t value_length(char byte, size_t n)
{
    char value[GT_AUDIT_VALUE_MAX + 2] = "";
    const char *at;

    memset(value, byte, n);
    encode(&(struct gt_audit_event){.kind = GT_AUDIT_STOP, .reason = value});
    at = strstr(line, "\"reason\":\"");
    assert_non_null(at);
    return strcspn(at + strlen("\"reason\":\""), "\"");
}

static void test_long_values_end_in_dots(void **state)
{
    size_t max = GT_AUDIT_VALUE_MAX - 3;

    assert_int_equal(value_length('a', max), max);
    assert_null(strstr(line, "..."));
    assert_int_equal(value_length('a', max + 1), GT_AUDIT_VALUE_MAX);
    assert_non_null(strstr(line, "a...\""));
    assert_true(value_length('\x01', GT_AUDIT_VALUE_MAX) <= GT_AUDIT_VALUE_MAX);
    assert_non_null(strstr(line, "\\u0001...\""));
}

/* All values at their limits at once fit into a line. */
static void test_longest_line_fits(void **state)
{
    char value[GT_AUDIT_VALUE_MAX + 2] = "";
    static const uint8_t key[GT_KEY_SIZE] = {255};
    struct gt_audit_line decoded;

    memset(value, 'a', sizeof(value) - 1);
    for (enum gt_audit_kind kind = 0; kind < GT_AUDIT_N_KINDS; kind++) {
        const struct gt_audit_event event = {
            kind,       value,      value,      value,      value,      value,
            key,        value,      value,      value,      value,      value,
            value,      UINT32_MAX, UINT32_MAX, UINT16_MAX, UINT64_MAX, UINT64_MAX,
            UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT16_MAX};
        const struct gt_audit_head head = {.seq = UINT64_MAX - 1};
        size_t n = gt_audit_line_encode(&event, &head, UINT64_MAX, line);

        assert_int_equal(line[n - 1], '\n');
        assert_int_equal(gt_audit_line_decode(gt_span(line, n), &decoded), 0);
        assert_true(decoded.seq == UINT64_MAX);
        assert_string_equal(decoded.event, gt_audit_kind_name(kind));
        assert_true(strlen(decoded.event) <= GT_AUDIT_NAME_MAX);
    }
}

static void test_decoder_reads_the_fixed_members(void **state)
{
    struct gt_audit_head head = {.seq = 41};
    struct gt_audit_line decoded;

    memset(head.hash, 0xfe, sizeof(head.hash));
    size_t n = gt_audit_line_encode(&(struct gt_audit_event){.kind = GT_AUDIT_LOST, .n_lost = 5},
                                    &head, TIME_MS, line);
    assert_int_equal(gt_audit_line_decode(gt_span(line, n), &decoded), 0);
    assert_int_equal(decoded.seq, 42);
    assert_string_equal(decoded.time, "2026-11-30T14:05:00.123Z");
    assert_string_equal(decoded.event, "lost");
    assert_memory_equal(decoded.prev, head.hash, GT_KEY_SIZE);
}

static void test_decoder_rejects_other_forms(void **state)
{
    struct gt_audit_line decoded;
    size_t n = encode(&(struct gt_audit_event){.kind = GT_AUDIT_STOP, .reason = "x"});

    for (size_t short_n = 0; short_n < n; short_n++)
        assert_int_equal(gt_audit_line_decode(gt_span(line, short_n), &decoded), 1);
    line[n - 4] = 'A'; /* an uppercase digit of prev */
    assert_int_equal(gt_audit_line_decode(gt_span(line, n), &decoded), 1);
    line[n - 4] = '0';
    assert_int_equal(gt_audit_line_decode(gt_span(line, n), &decoded), 0);
    line[n / 2] = '\x1b';
    assert_int_equal(gt_audit_line_decode(gt_span(line, n), &decoded), 1);
    line[n / 2] = '\n';
    assert_int_equal(gt_audit_line_decode(gt_span(line, n), &decoded), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_line_has_exactly_these_bytes),
        cmocka_unit_test(test_absent_values_are_left_out),
        cmocka_unit_test(test_every_byte_is_escaped_exactly),
        cmocka_unit_test(test_value_cannot_forge_a_member),
        cmocka_unit_test(test_long_values_end_in_dots),
        cmocka_unit_test(test_longest_line_fits),
        cmocka_unit_test(test_decoder_reads_the_fixed_members),
        cmocka_unit_test(test_decoder_rejects_other_forms),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
