/* SPDX-License-Identifier: ISC */
/* fields.c: the bytes of each type, and every length at which a record is cut. */
#include "gotthard/base/fields.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

struct record {
    uint8_t u8;
    uint16_t u16;
    uint32_t u32;
    uint64_t u64;
    int32_t signed32;
    bool is_set;
    uint8_t bytes[3];
    char text[6];
};

static const struct gt_field fields[] = {
    GT_FIELD_U8(struct record, u8),           GT_FIELD_U16(struct record, u16),
    GT_FIELD_U32(struct record, u32),         GT_FIELD_U64(struct record, u64),
    GT_FIELD_U32(struct record, signed32),    GT_FIELD_BOOL(struct record, is_set),
    GT_FIELD_BYTES(struct record, bytes, 3u), GT_FIELD_STRING(struct record, text),
};

static const struct record sample = {.u8 = 0x01,
                                     .u16 = 0x0203,
                                     .u32 = 0x04050607,
                                     .u64 = 0x08090a0b0c0d0e0f,
                                     .signed32 = -2,
                                     .is_set = true,
                                     .bytes = {0xaa, 0xbb, 0xcc},
                                     .text = "hello"};

static const uint8_t encoded[] = {0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a,
                                  0x0b, 0x0c, 0x0d, 0x0e, 0x0f, 0xff, 0xff, 0xff, 0xfe, 0x01,
                                  0xaa, 0xbb, 0xcc, 0x00, 0x05, 'h',  'e',  'l',  'l',  'o'};

static void test_write_encodes_each_type_big_endian(void **state)
{
    uint8_t bytes[64];
    struct gt_writer w = gt_writer(bytes, sizeof(bytes));

    gt_fields_write(&w, fields, GT_ARRAY_SIZE(fields), &sample);
    assert_false(w.failed);
    assert_int_equal(w.n, sizeof(encoded));
    assert_memory_equal(bytes, encoded, sizeof(encoded));
}

static void test_write_fails_without_room(void **state)
{
    uint8_t bytes[sizeof(encoded)];

    for (size_t cap = 0; cap < sizeof(encoded); cap++) {
        struct gt_writer w = gt_writer(bytes, cap);

        gt_fields_write(&w, fields, GT_ARRAY_SIZE(fields), &sample);
        assert_true(w.failed);
    }
}

static void test_read_restores_each_member(void **state)
{
    struct gt_reader r = gt_reader(encoded, sizeof(encoded));
    struct record got = {0};

    gt_fields_read(&r, fields, GT_ARRAY_SIZE(fields), &got);
    assert_true(gt_reader_is_done(&r));
    assert_int_equal(got.u8, sample.u8);
    assert_int_equal(got.u16, sample.u16);
    assert_int_equal(got.u32, sample.u32);
    assert_int_equal(got.u64, sample.u64);
    assert_int_equal(got.signed32, sample.signed32);
    assert_true(got.is_set);
    assert_memory_equal(got.bytes, sample.bytes, sizeof(got.bytes));
    assert_string_equal(got.text, sample.text);
}

static void test_read_fails_on_every_cut(void **state)
{
    for (size_t cut = 0; cut < sizeof(encoded); cut++) {
        struct gt_reader r = gt_reader(encoded, cut);
        struct record got;

        gt_fields_read(&r, fields, GT_ARRAY_SIZE(fields), &got);
        assert_true(r.failed);
        assert_string_equal(got.text, "");
    }
}

static void test_read_rejects_string_beyond_capacity(void **state)
{
    static const struct gt_field text[] = {GT_FIELD_STRING(struct record, text)};
    static const uint8_t full[] = {0, 6, 'h', 'e', 'l', 'l', 'o', '!'},
                         with_nul[] = {0, 5, 'h', 'e', 0, 'l', 'o'};
    struct record got;

    struct gt_reader r = gt_reader(full, sizeof(full));
    gt_fields_read(&r, text, 1, &got);
    assert_true(r.failed);
    r = gt_reader(with_nul, sizeof(with_nul));
    gt_fields_read(&r, text, 1, &got);
    assert_true(r.failed);
}

static void test_read_bool_accepts_any_nonzero_byte(void **state)
{
    static const struct gt_field is_set[] = {GT_FIELD_BOOL(struct record, is_set)};

    for (unsigned value = 0; value < 256; value++) {
        uint8_t byte = (uint8_t)value;
        struct gt_reader r = gt_reader(&byte, 1);
        struct record got;

        gt_fields_read(&r, is_set, 1, &got);
        assert_int_equal(got.is_set, value != 0);
    }
}

static void test_read_rejects_ordinal_zero(void **state)
{
    static const struct gt_field ordinals[] = {GT_FIELD_ORDINAL16(struct record, u16),
                                               GT_FIELD_ORDINAL32(struct record, u32)};

    static const struct {
        uint8_t bytes[6];
        bool is_valid;
    } cases[] = {
        {{0, 1, 0, 0, 0, 1}, true},
        {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, true},
        {{0, 0, 0, 0, 0, 1}, false},
        {{0, 1, 0, 0, 0, 0}, false},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        struct gt_reader r = gt_reader(cases[i].bytes, sizeof(cases[i].bytes));
        struct record got;

        gt_fields_read(&r, ordinals, GT_ARRAY_SIZE(ordinals), &got);
        assert_int_equal(gt_reader_is_done(&r), cases[i].is_valid);
    }
}

static void test_read_flag_accepts_zero_and_one_only(void **state)
{
    static const struct gt_field is_set[] = {GT_FIELD_FLAG(struct record, is_set)};

    for (unsigned value = 0; value < 256; value++) {
        uint8_t byte = (uint8_t)value;
        struct gt_reader r = gt_reader(&byte, 1);
        struct record got;

        gt_fields_read(&r, is_set, 1, &got);
        assert_int_equal(r.failed, value > 1);
        assert_int_equal(got.is_set, value == 1);
    }
}

struct with_span {
    struct gt_span span;
};

static void test_span_borrows_from_the_reader(void **state)
{
    static const struct gt_field span[] = {GT_FIELD_SPAN(struct with_span, span)};
    static const uint8_t bytes[] = {0, 3, 'a', 0, 'b'}, cut[] = {0, 4, 'a', 0, 'b'};
    struct with_span got;
    uint8_t written[sizeof(bytes)];

    struct gt_reader r = gt_reader(bytes, sizeof(bytes));
    gt_fields_read(&r, span, 1, &got);
    assert_true(gt_reader_is_done(&r));
    assert_ptr_equal(got.span.data, bytes + 2);
    assert_int_equal(got.span.n, 3);
    struct gt_writer w = gt_writer(written, sizeof(written));
    gt_fields_write(&w, span, 1, &got);
    assert_false(w.failed);
    assert_memory_equal(written, bytes, sizeof(bytes));

    r = gt_reader(cut, sizeof(cut));
    gt_fields_read(&r, span, 1, &got);
    assert_true(r.failed);
    assert_int_equal(got.span.n, 0);
}

static void test_long_span_has_a_u32_length(void **state)
{
    static const struct gt_field span[] = {GT_FIELD_LONG_SPAN(struct with_span, span)};
    static uint8_t content[UINT16_MAX + 1], bytes[sizeof(content) + 4];
    const struct with_span sent = {gt_span(content, sizeof(content))};
    struct gt_writer w = gt_writer(bytes, sizeof(bytes));
    struct with_span got;

    gt_fields_write(&w, span, 1, &sent);
    assert_false(w.failed);
    assert_memory_equal(bytes, "\0\1\0\0", 4);
    struct gt_reader r = gt_reader(bytes, w.n);
    gt_fields_read(&r, span, 1, &got);
    assert_true(gt_reader_is_done(&r));
    assert_ptr_equal(got.span.data, bytes + 4);
    assert_int_equal(got.span.n, sizeof(content));
    r = gt_reader(bytes, w.n - 1);
    gt_fields_read(&r, span, 1, &got);
    assert_true(r.failed);
    assert_int_equal(got.span.n, 0);
}

#define LISTED(ROW)      \
    ROW(U16, u16)        \
    ROW(BYTES, bytes, 3) \
    ROW(FLAG, is_set)    \
    ROW(STRING, text)
#define SIZE(kind, member, ...) +GT_FIELD_WIRE_##kind(__VA_ARGS__)
_Static_assert(0 LISTED(SIZE) == 2 + 3 + 1 + 2, "the size of a listed record");

static void test_fixed_integer_is_written_and_required(void **state)
{
    static const struct gt_field fixed[] = {GT_FIELD_FIXED16(struct record, 0x0102),
                                            GT_FIELD_FIXED8(struct record, 3)};
    uint8_t bytes[3];
    struct gt_writer w = gt_writer(bytes, sizeof(bytes));

    gt_fields_write(&w, fixed, 2, NULL);
    assert_int_equal(w.n, 3);
    assert_memory_equal(bytes, "\1\2\3", 3);
    for (size_t i = 0; i <= sizeof(bytes); i++) {
        uint8_t changed[4] = {1, 2, 3};
        struct gt_reader r = gt_reader(changed, sizeof(bytes));

        changed[i] ^= 1;
        gt_fields_read(&r, fixed, 2, NULL);
        assert_int_equal(r.failed, i < sizeof(bytes));
    }
}

struct named {
    char name[GT_NAME_MAX + 1];
};

static void test_read_name_rejects_other_strings(void **state)
{
    static const struct gt_field name[] = {GT_FIELD_NAME(struct named, name)};

    static const struct {
        const char *bytes;
        size_t n;
        bool is_name;
    } cases[] = {
        {"\0\1a", 3, true}, {"\0\0", 2, false}, {"\0\3a/b", 5, false}, {"\0\2a", 3, false}};

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        struct gt_reader r = gt_reader(cases[i].bytes, cases[i].n);
        struct named got;

        gt_fields_read(&r, name, 1, &got);
        assert_int_equal(!r.failed, cases[i].is_name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_write_encodes_each_type_big_endian),
        cmocka_unit_test(test_write_fails_without_room),
        cmocka_unit_test(test_read_restores_each_member),
        cmocka_unit_test(test_read_fails_on_every_cut),
        cmocka_unit_test(test_read_rejects_string_beyond_capacity),
        cmocka_unit_test(test_read_bool_accepts_any_nonzero_byte),
        cmocka_unit_test(test_read_rejects_ordinal_zero),
        cmocka_unit_test(test_read_flag_accepts_zero_and_one_only),
        cmocka_unit_test(test_span_borrows_from_the_reader),
        cmocka_unit_test(test_long_span_has_a_u32_length),
        cmocka_unit_test(test_fixed_integer_is_written_and_required),
        cmocka_unit_test(test_read_name_rejects_other_strings),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
