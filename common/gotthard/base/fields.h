/* SPDX-License-Identifier: ISC */
/*
 * Row tables for encoded records: each row names one member of a struct, and the same table drives
 * the encoder and the decoder, so that the two cannot disagree. Integers are big-endian; a string
 * is a u16 length and its bytes (bytes.h). The sizes on the wire are checked against the members at
 * compile time.
 *
 *     static const struct gt_field fields[] = {
 *         GT_FIELD_U32(struct record, pid),
 *         GT_FIELD_STRING(struct record, name),
 *     };
 *     gt_fields_write(&writer, fields, GT_ARRAY_SIZE(fields), &record);
 *     gt_fields_read(&reader, fields, GT_ARRAY_SIZE(fields), &record);
 */
#pragma once

#include "gotthard/base/text.h"

enum gt_field_type {
    GT_FIELD_TYPE_INTEGER,   /* 1, 2, 4 or 8 bytes, as the member */
    GT_FIELD_TYPE_BOOL,      /* 1 byte; decoded, any value but 0 is true */
    GT_FIELD_TYPE_BYTES,     /* exactly the member's size */
    GT_FIELD_TYPE_STRING,    /* at most the member's size - 1, without a NUL */
    GT_FIELD_TYPE_ORDINAL,   /* an integer that counts from 1; decoding fails for 0 */
    GT_FIELD_TYPE_FLAG,      /* 1 byte; decoding fails for any value but 0 and 1 */
    GT_FIELD_TYPE_SPAN,      /* a u16 length and its bytes; decoded, borrows from the reader */
    GT_FIELD_TYPE_LONG_SPAN, /* the same with a u32 length */
    GT_FIELD_TYPE_NAME,      /* a string; decoding fails unless gt_text_is_name() accepts it */
    GT_FIELD_TYPE_FIXED,     /* an integer without a member; decoding fails for any other value */
};

struct gt_field {
    enum gt_field_type type;
    size_t offset; /* of the member, in bytes; FIXED: the value */
    size_t size;   /* of the member, in bytes; FIXED: of the integer */
};

/* sizeof(member), and a compile error when that is not @size. */
#define GT_FIELD_SIZE(type, member, size) \
    (sizeof(((type *)0)->member) + 0 * sizeof(char[sizeof(((type *)0)->member) == (size) ? 1 : -1]))

#define GT_FIELD_OF_SIZE(kind, type, member, size)                                      \
    {                                                                                   \
        GT_FIELD_TYPE_##kind, offsetof(type, member), GT_FIELD_SIZE(type, member, size) \
    }
#define GT_FIELD_U8(type, member)          GT_FIELD_OF_SIZE(INTEGER, type, member, 1)
#define GT_FIELD_U16(type, member)         GT_FIELD_OF_SIZE(INTEGER, type, member, 2)
#define GT_FIELD_U32(type, member)         GT_FIELD_OF_SIZE(INTEGER, type, member, 4)
#define GT_FIELD_U64(type, member)         GT_FIELD_OF_SIZE(INTEGER, type, member, 8)
#define GT_FIELD_BOOL(type, member)        GT_FIELD_OF_SIZE(BOOL, type, member, sizeof(bool))
#define GT_FIELD_BYTES(type, member, size) GT_FIELD_OF_SIZE(BYTES, type, member, size)
#define GT_FIELD_STRING(type, member)                                             \
    {                                                                             \
        GT_FIELD_TYPE_STRING, offsetof(type, member), sizeof(((type *)0)->member) \
    }

#define GT_FIELD_ORDINAL16(type, member) GT_FIELD_OF_SIZE(ORDINAL, type, member, 2)
#define GT_FIELD_ORDINAL32(type, member) GT_FIELD_OF_SIZE(ORDINAL, type, member, 4)
#define GT_FIELD_FLAG(type, member)      GT_FIELD_OF_SIZE(FLAG, type, member, sizeof(bool))
#define GT_FIELD_NAME(type, member)      GT_FIELD_OF_SIZE(NAME, type, member, GT_NAME_MAX + 1)
#define GT_FIELD_FIXED8(type, value)  \
    {                                 \
        GT_FIELD_TYPE_FIXED, value, 1 \
    }
#define GT_FIELD_FIXED16(type, value) \
    {                                 \
        GT_FIELD_TYPE_FIXED, value, 2 \
    }
#define GT_FIELD_SPAN(type, member) GT_FIELD_OF_SIZE(SPAN, type, member, sizeof(struct gt_span))
#define GT_FIELD_LONG_SPAN(type, member) \
    GT_FIELD_OF_SIZE(LONG_SPAN, type, member, sizeof(struct gt_span))

/*
 * The least number of bytes of each kind on the wire. A record whose rows are listed once, in a
 * macro, has its size at compile time:
 *
 *     #define PAIR(ROW) ROW(U32, first) ROW(BYTES, second, 16)
 *     #define FIELD(kind, ...) GT_FIELD_##kind(struct pair, __VA_ARGS__),
 *     #define SIZE(kind, member, ...) +GT_FIELD_WIRE_##kind(__VA_ARGS__)
 *     static const struct gt_field fields[] = {PAIR(FIELD)};
 *     static_assert(0 PAIR(SIZE) == 20, "as the protocol has it");
 */
#define GT_FIELD_WIRE_U8()        1
#define GT_FIELD_WIRE_U16()       2
#define GT_FIELD_WIRE_U32()       4
#define GT_FIELD_WIRE_U64()       8
#define GT_FIELD_WIRE_ORDINAL16() 2
#define GT_FIELD_WIRE_ORDINAL32() 4
#define GT_FIELD_WIRE_BOOL()      1
#define GT_FIELD_WIRE_FLAG()      1
#define GT_FIELD_WIRE_BYTES(size) (size)
#define GT_FIELD_WIRE_STRING()    2
#define GT_FIELD_WIRE_SPAN()      2
#define GT_FIELD_WIRE_LONG_SPAN() 4
#define GT_FIELD_WIRE_NAME()      2
#define GT_FIELD_WIRE_FIXED8()    1
#define GT_FIELD_WIRE_FIXED16()   2

/* Appends the members of @record, in the order of the table. Fails as @w does. */
void gt_fields_write(struct gt_writer *w, const struct gt_field *fields, size_t n_fields,
                     const void *record);
/* Reads the members of @ret_record. Members after a failure are zero; the caller judges @r. */
void gt_fields_read(struct gt_reader *r, const struct gt_field *fields, size_t n_fields,
                    void *ret_record);
