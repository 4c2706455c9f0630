/* SPDX-License-Identifier: ISC */
/*
 * Encoding and decoding by a table of fields; see the header.
 */
#include "gotthard/base/fields.h"

static uint64_t load_integer(const void *member, size_t size)
{
    uint8_t u8;
    uint16_t u16;
    uint32_t u32;
    uint64_t u64;

    switch (size) {
    case 1: memcpy(&u8, member, size); return u8;
    case 2: memcpy(&u16, member, size); return u16;
    case 4: memcpy(&u32, member, size); return u32;
    default: memcpy(&u64, member, sizeof(u64)); return u64;
    }
}

static void store_integer(void *member, size_t size, uint64_t value)
{
    uint8_t u8 = (uint8_t)value;
    uint16_t u16 = (uint16_t)value;
    uint32_t u32 = (uint32_t)value;

    switch (size) {
    case 1: memcpy(member, &u8, size); break;
    case 2: memcpy(member, &u16, size); break;
    case 4: memcpy(member, &u32, size); break;
    default: memcpy(member, &value, sizeof(value)); break;
    }
}

/* Returns NULL for FIXED, which has no member. */
static const void *member_of(const struct gt_field *field, const void *record)
{
    return field->type == GT_FIELD_TYPE_FIXED ? NULL : (const char *)record + field->offset;
}

static void write_long_span(struct gt_writer *w, const struct gt_span *span)
{
    if (span->n > UINT32_MAX)
        w->failed = true;
    gt_write_u32(w, (uint32_t)span->n);
    gt_write_span(w, *span);
}

static void write_field(struct gt_writer *w, const struct gt_field *field, const void *member)
{
    switch (field->type) {
    case GT_FIELD_TYPE_INTEGER:
    case GT_FIELD_TYPE_ORDINAL:
        gt_write_uint(w, load_integer(member, field->size), field->size);
        break;
    case GT_FIELD_TYPE_BOOL:
    case GT_FIELD_TYPE_FLAG: gt_write_u8(w, *(const bool *)member); break;
    case GT_FIELD_TYPE_BYTES: gt_write_bytes(w, member, field->size); break;
    case GT_FIELD_TYPE_STRING:
    case GT_FIELD_TYPE_NAME: gt_write_string(w, member); break;
    case GT_FIELD_TYPE_FIXED: gt_write_uint(w, field->offset, field->size); break;
    case GT_FIELD_TYPE_SPAN: gt_write_lp(w, *(const struct gt_span *)member); break;
    case GT_FIELD_TYPE_LONG_SPAN: write_long_span(w, member); break;
    }
}

static void read_integer(struct gt_reader *r, const struct gt_field *field, void *ret_member)
{
    uint64_t value = gt_read_uint(r, field->size);

    r->failed |= field->type == GT_FIELD_TYPE_ORDINAL && value == 0;
    store_integer(ret_member, field->size, value);
}

static bool read_flag(struct gt_reader *r)
{
    uint8_t value = gt_read_u8(r);

    r->failed |= value > 1;
    return value == 1;
}

static void read_name(struct gt_reader *r, char *ret, size_t cap)
{
    gt_read_string(r, ret, cap);
    r->failed |= !gt_text_is_name(gt_span_text(ret));
}

static void read_fixed(struct gt_reader *r, const struct gt_field *field)
{
    r->failed |= gt_read_uint(r, field->size) != field->offset;
}

static void read_field(struct gt_reader *r, const struct gt_field *field, void *ret_member)
{
    switch (field->type) {
    case GT_FIELD_TYPE_INTEGER:
    case GT_FIELD_TYPE_ORDINAL: read_integer(r, field, ret_member); break;
    case GT_FIELD_TYPE_BOOL: *(bool *)ret_member = gt_read_u8(r) != 0; break;
    case GT_FIELD_TYPE_FLAG: *(bool *)ret_member = read_flag(r); break;
    case GT_FIELD_TYPE_BYTES: gt_read_into(r, ret_member, field->size); break;
    case GT_FIELD_TYPE_STRING: gt_read_string(r, ret_member, field->size); break;
    case GT_FIELD_TYPE_SPAN: *(struct gt_span *)ret_member = gt_read_lp(r); break;
    case GT_FIELD_TYPE_LONG_SPAN:
        *(struct gt_span *)ret_member = gt_read_bytes(r, gt_read_u32(r));
        break;
    case GT_FIELD_TYPE_NAME: read_name(r, ret_member, field->size); break;
    case GT_FIELD_TYPE_FIXED: read_fixed(r, field); break;
    }
}

void gt_fields_write(struct gt_writer *w, const struct gt_field *fields, size_t n_fields,
                     const void *record)
{
    for (size_t i = 0; i < n_fields; i++)
        write_field(w, &fields[i], member_of(&fields[i], record));
}

void gt_fields_read(struct gt_reader *r, const struct gt_field *fields, size_t n_fields,
                    void *ret_record)
{
    for (size_t i = 0; i < n_fields; i++)
        read_field(r, &fields[i], (void *)(uintptr_t)member_of(&fields[i], ret_record));
}
